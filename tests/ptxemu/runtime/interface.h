// What a translated kernel calls. It is compiled by itself and linked with runtime.cpp.
#pragma once
#include "state.h"

enum Space : u32 { GENERIC, GLOBAL, SHARED, LOCAL };

// A generic address names its space in the upper bits; a buffer's begins with its number + 1 (see launch.py).
const u64 SHARED_WINDOW = 0x7eull << 56, LOCAL_WINDOW = 0x7dull << 56;
const u32 BUFFER_SHIFT = 40;

// The memory order of an access, as bits.
enum Order : u32 { WEAK = 0, RELAXED = 1, ACQUIRE = 2, RELEASE = 4, SCOPE_CTA = 8 };

// Collectives of a warp, and their modes.
enum Collective : u32 { SHUFFLE, VOTE, MATCH, REDUCE, SYNC, ELECT, LOAD_MATRIX, STORE_MATRIX };
enum Shuffle : u32 { UP, DOWN, BUTTERFLY, INDEX };
enum Vote : u32 { BALLOT, ALL, ANY, UNIFORM };
enum Reduce : u32 { ADD, MIN, MAX, AND, OR, XOR, OPERATION = 7, SIGNED = 8, FLOATS = 16, NAN_WINS = 32 };

void load(Thread* t, u32 space, u64 address, u32 pc, bool constant, void* value, u32 bytes);
void store(Thread* t, u32 space, u64 address, u32 pc, const void* value, u32 bytes);
void load_ordered(Thread* t, u32 space, u64 address, u32 pc, u32 order, void* value, u32 bytes);
void store_ordered(Thread* t, u32 space, u64 address, u32 pc, u32 order, const void* value, u32 bytes);
void fence(Thread* t);

// An atomic reads what is there into `old`, and then writes what `updated` points to.
u8* begin_atomic(Thread* t, u32 space, u64 address, u32 pc, void* old, u32 bytes);
void end_atomic(Thread* t, u8* host, u32 space, u32 order, const void* old, const void* updated, u32 bytes);
template <class T, class Update>
T atomic(Thread* t, u32 space, u64 address, u32 pc, u32 order, Update update) {
  T old;
  u8* host = begin_atomic(t, space, address, pc, &old, sizeof old);
  const T updated = update(old);
  end_atomic(t, host, space, order, &old, &updated, sizeof old);
  return old;
}

// t takes part in a collective: gives its `in`, and returns when its `out` is there.
void collective(Thread* t, u32 kind, u32 mode, u32 mask, u32 pc);
inline void collective(Thread* t, u32 kind, u32 mode, u64 in0, u64 in1, u64 in2, u32 mask, u32 pc) {
  t->in[0] = in0;
  t->in[1] = in1;
  t->in[2] = in2;
  collective(t, kind, mode, mask, pc);
}

void barrier(Thread* t, u32 id, u32 expected, u32 pc);
void copy_later(Thread* t, u64 to, u64 from, u32 bytes, u32 from_bytes, u32 pc);
void commit_copies(Thread* t);
void wait_for_copies(Thread* t, u32 pending);
void trap(Thread* t, u32 pc);

void kernel(Thread* t, const u8* parameters);  // the translated program
