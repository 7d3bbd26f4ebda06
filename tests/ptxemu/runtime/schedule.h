// In which order threads run: programs of a launch, some resident at a time, their threads in turns.
#pragma once
#include <memory>

#include "barrier.h"
#include "copies.h"
#include "warp.h"

static void end_thread(Thread* t) {
  t->state = DONE;
  cta->alive--;
  Warp& warp = warp_of(t);
  warp.alive &= ~(1u << t->lane);
  if (warp.waiting) try_collective(t->warp);
  for (u32 id = 0; id < 16; id++)
    if (cta->arrived[id]) try_barrier(id);
  for (;;) yield(t);
}

void trap(Thread* t, u32 pc) {
  report(t, TRAP, pc, 0, 0, 0);
  end_thread(t);
}

static void thread_main() {
  Thread* t = running;
  kernel(t, launch->parameters);
  end_thread(t);
}

static void begin_cta(Cta& c, u32 number) {
  const u32 n = launch->threads;
  c.number = number;
  c.alive = n;
  std::fill(c.shared.begin(), c.shared.end(), 0xcd);
  c.cells.assign((launch->shared_bytes >> launch->shared_cell_log2) + 2, Cell());
  c.others.assign(c.cells.size(), OtherReads());
  std::fill(c.arrived, c.arrived + 16, 0);
  c.warps.assign((n + 31) / 32, Warp());
  c.threads.assign(n, Thread());
  for (Warp& warp : c.warps) warp.epoch = 1;
  for (u32 i = 0; i < n; i++) {
    Thread& t = c.threads[i];
    t.number = i;
    t.lane = i % 32;
    t.warp = i / 32;
    c.warps[t.warp].alive |= 1u << t.lane;
    t.cta[0] = number % launch->grid[0];
    t.cta[1] = number / launch->grid[0] % launch->grid[1];
    t.cta[2] = number / launch->grid[0] / launch->grid[1];
    t.local = c.local.data() + size_t(launch->local_bytes) * i;
    t.fiber = new_fiber(c.stacks + STACK * (i + 1), thread_main);
  }
  progress++;
}

class Scheduler {
  const u32 programs = launch->grid[0] * launch->grid[1] * launch->grid[2];
  std::vector<std::unique_ptr<Cta>> slots;
  std::vector<Cta*> resident;
  std::vector<u32> order;     // of programs
  std::vector<u32> priority;  // of the warps of all slots
  u32 begun = 0;
  bool moved = false;         // whether any thread ran, in this round

  template <class T>
  static void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; i--) std::swap(items[i - 1], items[random_number() % i]);
  }

  void run(Cta* c, u32 i) {
    if (stopped || c->threads[i].state != RUNNING) return;
    moved = true;
    cta = c;
    running = &c->threads[i];
    slice = 0;
    switch_fiber(&scheduler, running->fiber);
  }

  void run_in_order(bool reverse) {
    const u32 n = launch->threads;
    for (size_t k = 0; k < resident.size(); k++)
      for (u32 i = 0; i < n; i++)
        run(resident[reverse ? resident.size() - 1 - k : k], reverse ? n - 1 - i : i);
  }

  void run_shuffled() {
    std::vector<std::pair<Cta*, u32>> ready;
    for (Cta* c : resident)
      for (Thread& t : c->threads)
        if (t.state == RUNNING) ready.push_back({c, t.number});
    shuffle(ready);
    for (auto& [c, i] : ready) run(c, i);
  }

  // One warp runs as far as it can; one that spins gives way to those that do not.
  void run_ahead() {
    if (random_number() % 8 == 0)
      std::swap(priority[random_number() % priority.size()], priority[random_number() % priority.size()]);
    for (bool spinning : {false, true})
      for (u32 p : priority) {
        if (moved) return;
        Cta* c = slots[p / warps_of_cta()].get();
        const u32 first = p % warps_of_cta() * 32, end = std::min(first + 32, launch->threads);
        bool spins = false;
        for (u32 i = first; i < end; i++) spins |= c->threads[i].spinning;
        if (!c->alive || (spins && !spinning)) continue;
        for (u32 i = first; i < end; i++) {
          c->threads[i].spinning = false;
          run(c, i);
        }
      }
  }

  void replace_finished() {
    for (size_t k = 0; k < resident.size();) {
      if (resident[k]->alive) {
        k++;
        continue;
      }
      moved = true;
      if (begun < programs) begin_cta(*resident[k], order[begun++]);
      else resident.erase(resident.begin() + k);
    }
  }

  void report_deadlock() {
    for (Cta* c : resident) {
      cta = c;
      for (Thread& t : c->threads)
        if (t.state != DONE) report(&t, DEADLOCK, t.pc, 0, t.state, 0);
    }
    stopped = true;
  }

 public:
  bool allocate() {
    const u32 n = launch->threads, count = std::max(1u, std::min(launch->resident, programs));
    for (u32 s = 0; s < count; s++) {
      slots.push_back(std::make_unique<Cta>());
      Cta& c = *slots.back();
      c.shared.resize(launch->shared_bytes + 16);
      c.local.resize(size_t(launch->local_bytes) * n + 16);
      c.stacks = new_stacks(n);
      if (!c.stacks) return false;
      resident.push_back(&c);
    }
    return true;
  }

  void play() {
    for (u32 i = 0; i < programs; i++) order.push_back(launch->schedule == REVERSE ? programs - 1 - i : i);
    if (launch->schedule >= RANDOM) shuffle(order);
    for (u32 i = 0; i < slots.size() * ((launch->threads + 31) / 32); i++) priority.push_back(i);
    for (Cta* c : resident) begin_cta(*c, order[begun++]);
    u64 idle = 0, seen = 0, spins_before = 0;
    while (!resident.empty() && !stopped) {
      moved = false;
      if (launch->schedule == RANDOM) run_shuffled();
      else if (launch->schedule == ONE_WARP_AHEAD) run_ahead();
      else run_in_order(launch->schedule == REVERSE);
      if (stopped) break;
      replace_finished();
      // All wait, or some spin and nothing has been written for long.
      if (progress != seen) {
        seen = progress;
        idle = 0;
        spins_before = spins;
      } else {
        idle += 1 + quiet;
      }
      quiet = 0;
      if ((!moved && !resident.empty()) || (idle > launch->most_idle && spins > spins_before)) report_deadlock();
    }
  }

  ~Scheduler() {
    for (auto& c : slots)
      if (c->stacks) munmap(c->stacks, STACK * launch->threads);
  }
};

// For launch.py to compare with its own.
extern "C" __attribute__((visibility("default"))) void layout(u32* sizes) {
  const u32 mine[] = {sizeof(Launch), sizeof(Finding), sizeof(Buffer), sizeof(Traced), sizeof(Cell), sizeof(OtherReads)};
  memcpy(sizes, mine, sizeof mine);
}

extern "C" __attribute__((visibility("default"))) const Traced* traced(u64* count) {
  *count = trace.size();
  return trace.data();
}

extern "C" __attribute__((visibility("default"))) int emulate(Launch* l) {
  launch = l;
  stopped = false;
  progress = spins = quiet = 0;
  random_state = l->seed * 0x9e3779b97f4a7c15ull + 0x1234567;
  releases.clear();
  moments.assign(1, Moment());
  trace.clear();
  Scheduler s;
  if (!s.allocate()) return -1;
  s.play();
  return 0;
}
