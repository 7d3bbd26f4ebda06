// Collectives of a warp: lanes wait until all of their member mask are there, then the last one acts for all.
#pragma once
#include "memory.h"

// The lanes that are in one collective.
struct Group {
  Thread* lanes;
  u32 mask;

  template <class Do>
  void each(Do act) const {
    for (u32 rest = mask; rest; rest &= rest - 1) act(lanes[__builtin_ctz(rest)]);
  }
};

// Where a shuffle reads (shfl): c holds the clamp and the mask of the segment.
static u32 source_lane(u32 mode, u32 lane, u32 b, u32 c, bool& within) {
  const u32 clamp = c & 31, segment = c >> 8 & 31;
  const u32 first = lane & segment, last = first | (clamp & ~segment);
  b &= 31;
  const s32 source = mode == UP          ? s32(lane) - s32(b)
                     : mode == DOWN      ? s32(lane + b)
                     : mode == BUTTERFLY ? s32(lane ^ b)
                                         : s32(first | (b & ~segment));
  within = mode == UP ? source >= s32(last) : source <= s32(last);
  return within ? u32(source) : lane;
}

static void shuffle(const Group& group, u32 mode) {
  group.each([&](Thread& t) {
    bool within;
    const u32 source = source_lane(mode, t.lane, u32(t.in[1]), u32(t.in[2]), within);
    if (!(group.mask >> source & 1)) {
      report(&t, LANE_NOT_THERE, t.pc, 1, source, 0);
      t.out[0] = 0xdeadbeef;
    } else {
      t.out[0] = group.lanes[source].in[0];
    }
    t.out[1] = within;
  });
}

static void vote(const Group& group, u32 mode) {
  u32 ballot = 0;
  group.each([&](Thread& t) { ballot |= u32(t.in[0] & 1) << t.lane; });
  const bool all = ballot == group.mask, any = ballot != 0;
  const u32 result = mode == BALLOT ? ballot : mode == ALL ? all : mode == ANY ? any : all || !any;
  group.each([&](Thread& t) { t.out[0] = result; });
}

static void match(const Group& group, bool all) {
  group.each([&](Thread& t) {
    u32 same = 0;
    group.each([&](Thread& other) { same |= u32(other.in[0] == t.in[0]) << other.lane; });
    t.out[1] = same == group.mask;
    t.out[0] = all && !t.out[1] ? 0 : same;
  });
}

template <class T>
static void reduce_integers(const Group& group, u32 operation) {
  T result = T(group.lanes[__builtin_ctz(group.mask)].in[0]);
  const Group rest = {group.lanes, group.mask & (group.mask - 1)};
  rest.each([&](Thread& t) {
    const T x = T(t.in[0]);
    switch (operation) {
      case ADD: result = T(result + x); break;
      case MIN: result = std::min(result, x); break;
      case MAX: result = std::max(result, x); break;
      case AND: result = T(result & x); break;
      case OR: result = T(result | x); break;
      case XOR: result = T(result ^ x); break;
    }
  });
  group.each([&](Thread& t) { t.out[0] = u32(result); });
}

static void reduce_floats(const Group& group, u32 mode) {
  float result = as_f32(u32(group.lanes[__builtin_ctz(group.mask)].in[0]));
  group.each([&](Thread& t) {
    const float x = as_f32(u32(t.in[0]));
    const bool least = (mode & OPERATION) == MIN;
    if (mode & NAN_WINS) result = least ? minimum_or_nan(result, x) : maximum_or_nan(result, x);
    else result = least ? minimum(result, x) : maximum(result, x);
  });
  group.each([&](Thread& t) { t.out[0] = bits(result); });
}

static void reduce(const Group& group, u32 mode) {
  if (mode & FLOATS) reduce_floats(group, mode);
  else if (mode & SIGNED) reduce_integers<s32>(group, mode & OPERATION);
  else reduce_integers<u32>(group, mode & OPERATION);
}

static void elect(const Group& group) {
  const u32 leader = __builtin_ctz(group.mask);
  group.each([&](Thread& t) {
    t.out[0] = leader;
    t.out[1] = t.lane == leader;
  });
}

// bar.warp.sync: afterwards each lane knows what any of them did.
static void sync_warp(const Group& group) {
  Warp& warp = warp_of(&group.lanes[0]);
  group.each([&](Thread& t) {
    if (t.acquired.empty()) return;
    warp.far.learn(t.acquired);
    t.acquired.clear();
  });
  warp.epoch++;
}

// ldmatrix and stmatrix of 8 x 8 matrices of 16 bits: lane 8 m + r has the address of row r of matrix m, and in its
// register m two elements of row lane / 4 (transposed: of that column).
template <class Do>
static void each_element(const Group& group, u32 matrices, bool transposed, Do act) {
  for (u32 m = 0; m < matrices; m++)
    group.each([&](Thread& t) {
      for (u32 e = 0; e < 2; e++) {
        const u32 a = t.lane / 4, b = t.lane % 4 * 2 + e, row = transposed ? b : a, column = transposed ? a : b;
        act(t, m, e, group.lanes[m * 8 + row].in[0] + column * 2);
      }
    });
}

static void load_matrix(const Group& group, u32 matrices, bool transposed) {
  group.each([](Thread& t) { std::fill(t.out, t.out + 4, 0); });
  each_element(group, matrices, transposed, [](Thread& t, u32 m, u32 e, u64 address) {
    u16 value;
    memcpy(&value, resolve(&t, {SHARED, address, 2, t.pc, false, false, false, nullptr}), 2);
    t.out[m] |= u64(value) << 16 * e;
  });
}

static void store_matrix(const Group& group, u32 matrices, bool transposed) {
  each_element(group, matrices, transposed, [](Thread& t, u32 m, u32 e, u64 address) {
    const u16 value = u16(t.in[1 + m] >> 16 * e);
    const u8* bytes = reinterpret_cast<const u8*>(&value);
    u8* host = resolve(&t, {SHARED, address, 2, t.pc, true, false, false, bytes});
    if (host != nowhere) put(host, bytes, 2);
  });
}

static void act(const Group& group, u32 collective, u32 mode) {
  switch (collective) {
    case SHUFFLE: return shuffle(group, mode);
    case VOTE: return vote(group, mode);
    case MATCH: return match(group, mode);
    case REDUCE: return reduce(group, mode);
    case SYNC: return sync_warp(group);
    case ELECT: return elect(group);
    case LOAD_MATRIX: return load_matrix(group, mode & 7, mode & 8);
    case STORE_MATRIX: return store_matrix(group, mode & 7, mode & 8);
  }
}

// Acts for the lanes of a warp that all are where their member mask says.
static void try_collective(u32 number) {
  Warp& warp = cta->warps[number];
  Thread* lanes = &cta->threads[number * 32];
  for (u32 rest = warp.waiting; rest; rest &= rest - 1) {
    Thread& first = lanes[__builtin_ctz(rest)];
    if ((warp.waiting & first.mask) != (first.mask & warp.alive)) continue;
    const Group group = {lanes, warp.waiting & first.mask};
    bool same = true;
    group.each([&](Thread& t) {
      same &= t.collective == first.collective && t.mask == first.mask;
      if (t.pc != first.pc || t.collective != first.collective || t.mask != first.mask)
        report(&t, DIVERGENT_COLLECTIVE, t.pc, 0, 0, 0, first.pc, global_number(&first));
    });
    if (!same) {
      stopped = true;
      return;
    }
    act(group, first.collective & 255, first.collective >> 8);
    group.each([](Thread& t) { t.state = RUNNING; });
    warp.waiting &= ~group.mask;
    return;
  }
}

void collective(Thread* t, u32 kind, u32 mode, u32 mask, u32 pc) {
  Warp& warp = warp_of(t);
  t->collective = kind | mode << 8;
  t->mask = mask;
  t->pc = pc;
  launch->collectives++;
  if (!(mask >> t->lane & 1)) report(t, LANE_NOT_THERE, pc, 0, mask, 0);
  t->state = IN_COLLECTIVE;
  warp.waiting |= 1u << t->lane;
  if ((warp.waiting & mask) == (mask & warp.alive)) try_collective(t->warp);
  if (t->state == IN_COLLECTIVE) wait(t);
}
