// Handing control on, and telling what is wrong.
#pragma once
#include "fibers.h"
#include "interface.h"

inline u32 random_number() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return u32(random_state >> 16);
}

inline void yield(Thread* t) {
  launch->switches++;
  switch_fiber(&t->fiber, scheduler);
}

// t waits until another thread wakes it. The next lane goes on at once where the schedule would choose it anyway.
inline void wait(Thread* t) {
  const u32 first = t->warp * 32, lanes = std::min(32u, launch->threads - first);
  if (launch->schedule != RANDOM)
    for (u32 k = 1; k < lanes; k++) {
      u32 lane = launch->schedule == REVERSE ? (t->lane + lanes - k) % lanes : (t->lane + k) % lanes;
      Thread& next = cta->threads[first + lane];
      if (next.state != RUNNING) continue;
      launch->switches++;
      running = &next;
      slice = 0;
      switch_fiber(&t->fiber, next.fiber);
      return;
    }
  yield(t);
}

__attribute__((noinline)) static void report(Thread* t, u32 kind, u32 pc, s64 buffer, s64 offset, u32 bytes,
                                             u32 other_pc = 0, u32 other = NOBODY) {
  for (u32 i = 0; i < launch->findings; i++) {
    Finding& known = launch->finding[i];
    if (known.kind == kind && known.pc == pc && known.other_pc == other_pc) {
      known.count++;
      return;
    }
  }
  if (launch->findings == launch->most_findings) return;
  const u32 n = launch->threads;
  launch->finding[launch->findings++] = {
      kind, pc, other_pc, t->number, other == NOBODY ? NOBODY : other % n, cta->number,
      other == NOBODY ? NOBODY : other / n, bytes, buffer, offset, 1};
}
