// Which accesses conflict: each is compared with what the shadow of the memory remembers, and remembered.
#pragma once
#include "turns.h"

enum Relation { SAME_THREAD, SAME_WARP, SAME_CTA, ANOTHER_CTA };

static Relation relation(const Thread* t, u32 thread) {
  const u32 other = thread - cta->number * launch->threads;  // wraps around for CTAs before this one
  if (other >= launch->threads) return ANOTHER_CTA;
  return other == t->number ? SAME_THREAD : other / 32 == t->warp ? SAME_WARP : SAME_CTA;
}

inline u32 moment_of(Thread* t) {
  const u32 epoch = warp_of(t).epoch;
  const Moment& latest = moments[t->moment];
  if (!t->moment || latest.epoch != epoch || latest.releases != t->releases) {
    t->moment = u32(moments.size());
    moments.push_back({global_number(t), t->releases, epoch});
  }
  return t->moment;
}

__attribute__((noinline)) static bool knows(const Thread* t, const Moment& m) {
  const Knowledge& far = warp_of(t).far;
  if (far.empty() && t->acquired.empty()) return false;
  const u32 n = launch->threads;
  const u32 warp = Knowledge::of_warp(m.thread / n * warps_of_cta() + m.thread % n / 32);
  const u32 thread = Knowledge::of_thread(m.thread);
  for (const Knowledge* k : {&far, &t->acquired})
    if (k->covers(warp, m.epoch) || k->covers(thread, m.releases)) return true;
  return false;
}

// Whether access a happened before what t does now.
inline bool ordered(const Thread* t, const Access& a) {
  if (a.moment == t->moment) return true;
  const Moment& m = moments[a.moment];
  const Relation r = relation(t, m.thread);
  const Warp& warp = warp_of(t);
  if (r == SAME_THREAD || (r == SAME_WARP && m.epoch < warp.epoch)) return true;
  if (r == SAME_CTA && m.epoch < warp.known[m.thread % launch->threads / 32]) return true;
  return knows(t, m);
}

struct Place {  // of an access: bytes of a buffer, and their shadow
  Shadow shadow;
  u32 cell_log2, bytes;
  u64 offset;
  s64 buffer;  // its number; below 0 for shared memory

  u64 first() const { return offset >> cell_log2; }
  u64 last() const { return (offset + bytes - 1) >> cell_log2; }
  s64 offset_of(u64 cell) const { return s64(cell << cell_log2); }
};

// same: the bytes that are written were there already.
__attribute__((noinline)) static void conflict(Thread* t, u32 pc, const Access& a, const Place& p, u64 cell, bool same,
                                               bool both_write) {
  const u32 other = moments[a.moment].thread;
  const Relation r = relation(t, other);
  // Triton stores results that several lanes hold without a predicate.
  const bool replica = both_write && a.pc == pc && p.buffer < 0 && r != ANOTHER_CTA;
  const u32 kind = same              ? SAME_VALUE_RACE
                   : r == ANOTHER_CTA ? RACE_BETWEEN_CTAS
                   : replica         ? REPLICAS_DIFFER
                   : r == SAME_WARP   ? RACE_IN_WARP
                                      : RACE_BETWEEN_WARPS;
  report(t, kind, pc, p.buffer, p.offset_of(cell), p.bytes, a.pc, other);
}

inline void shadow_read(Thread* t, const Place& p, u32 pc, bool initialised, bool constant, bool strong) {
  Access now = {moment_of(t), pc, strong, false};
  for (u64 i = p.first(); i <= p.last(); i++) {
    Cell& cell = p.shadow.cells[i];
    __builtin_prefetch(&cell + 64 / sizeof(Cell));
    const Access& written = cell.write;
    if (written.moment) {
      if (!(strong && written.strong) && !ordered(t, written)) conflict(t, pc, written, p, i, false, false);
      if (constant)
        report(t, CONSTANT_WRITTEN, pc, p.buffer, p.offset_of(i), p.bytes, written.pc, moments[written.moment].thread);
    } else if (!initialised) {
      report(t, p.buffer < 0 ? UNINITIALISED_SHARED : UNINITIALISED, pc, p.buffer, p.offset_of(i), p.bytes);
    }
    now.others = cell.read.others;
    if (cell.read.moment && cell.read.moment != now.moment) {
      const Relation r = relation(t, moments[cell.read.moment].thread);
      if (r != SAME_THREAD) {
        p.shadow.others[i].by[r - SAME_WARP] = cell.read;
        now.others = true;
      }
    }
    cell.read = now;
  }
}

// host: the bytes there; value: what will be written, or nothing for an atomic.
inline void shadow_write(Thread* t, const Place& p, u32 pc, bool strong, const u8* host, const u8* value) {
  const Access now = {moment_of(t), pc, strong, false};
  for (u64 i = p.first(); i <= p.last(); i++) {
    Cell& cell = p.shadow.cells[i];
    __builtin_prefetch(&cell + 64 / sizeof(Cell));
    const u64 low = std::max(i << p.cell_log2, p.offset) - p.offset;
    const u64 high = std::min((i + 1) << p.cell_log2, p.offset + p.bytes) - p.offset;
    auto check = [&](const Access& a, bool both_write) {
      if (!a.moment || (strong && a.strong) || ordered(t, a)) return;
      conflict(t, pc, a, p, i, value && !memcmp(host + low, value + low, high - low), both_write);
    };
    check(cell.write, true);
    check(cell.read, false);
    if (cell.read.others)
      for (const Access& read : p.shadow.others[i].by) check(read, false);
    cell.write = now;
    if (strong) continue;
    if (cell.read.others) p.shadow.others[i] = OtherReads();
    cell.read = Access();
  }
}
