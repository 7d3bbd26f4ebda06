// Barriers of the CTA.
#pragma once
#include "turns.h"

static void collect(Knowledge& all, Knowledge& mine) {
  if (mine.empty()) return;
  all.learn(mine);
  mine.clear();
}

// Those who wait let go what they know of: afterwards each knows what any of them did.
static void join_clocks(u32 warps) {
  u32 known[32] = {};
  Knowledge far;
  for (u32 w = 0; w < warps_of_cta(); w++) {
    if (!(warps >> w & 1)) continue;
    Warp& warp = cta->warps[w];
    warp.known[w] = warp.epoch + 1;
    for (u32 k = 0; k < 32; k++) known[k] = std::max(known[k], warp.known[k]);
    if (!warp.far.empty()) far.learn(warp.far);
  }
  for (Thread& t : cta->threads)
    if (t.state == AT_BARRIER && warps >> t.warp & 1) collect(far, t.acquired);
  for (u32 w = 0; w < warps_of_cta(); w++) {
    if (!(warps >> w & 1)) continue;
    Warp& warp = cta->warps[w];
    memcpy(warp.known, known, sizeof known);
    warp.epoch++;
    if (!far.empty()) warp.far = far;
  }
}

// Opens barrier `id` if all whom it waits for are there.
static void try_barrier(u32 id) {
  std::vector<Thread*> here;
  for (Thread& t : cta->threads)
    if (t.state == AT_BARRIER && t.barrier == id) here.push_back(&t);
  if (here.empty() || here.size() < (here[0]->expected ? here[0]->expected : cta->alive)) return;
  u32 warps = 0;
  for (Thread* t : here) {
    warps |= 1u << t->warp;
    if (t->pc != here[0]->pc) report(t, DIVERGENT_BARRIER, t->pc, 0, id, 0, here[0]->pc, global_number(here[0]));
  }
  join_clocks(warps);
  for (Thread* t : here) {
    t->state = RUNNING;
    t->barriers++;
  }
  cta->arrived[id] = 0;
  launch->barriers++;
}

void barrier(Thread* t, u32 id, u32 expected, u32 pc) {
  t->state = AT_BARRIER;
  t->barrier = id;
  t->expected = expected;
  t->pc = pc;
  if (++cta->arrived[id] >= (expected ? expected : cta->alive)) try_barrier(id);
  if (t->state == AT_BARRIER) wait(t);
}
