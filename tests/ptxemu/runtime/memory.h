// Loads, stores and atomics: where an address leads, whether the access is allowed, and what it does.
#pragma once
#include "order.h"
#include "shadow.h"

struct Request {
  u32 space;
  u64 address;
  u32 bytes, pc;
  bool write, strong, constant;
  const u8* value;  // what is written, where that is known
};

static u8 nowhere[64];  // for accesses that lead nowhere

__attribute__((noinline)) static u8* refuse(Thread* t, u32 kind, const Request& r, s64 buffer, s64 offset) {
  report(t, kind, r.pc, buffer, offset, r.bytes);
  memset(nowhere, 0xcd, sizeof nowhere);
  return nowhere;
}

inline void check_access(Thread* t, const Request& r, const Place& place, u8* host, bool initialised) {
  if (r.address & (r.bytes - 1)) report(t, MISALIGNED, r.pc, place.buffer, s64(place.offset), r.bytes);
  if (launch->tracing)
    trace.push_back({cta->number, t->number, r.pc, t->barriers, r.bytes, r.write, place.buffer, s64(place.offset)});
  if (r.write) shadow_write(t, place, r.pc, r.strong, host, r.value);
  else shadow_read(t, place, r.pc, initialised, r.constant, r.strong);
}

// The host's address of what is asked for, or `nowhere`.
__attribute__((always_inline)) inline u8* resolve(Thread* t, Request r) {
  if (r.space == GENERIC) {
    const u64 window = r.address >> 56 << 56;
    r.space = window == SHARED_WINDOW ? SHARED : window == LOCAL_WINDOW ? LOCAL : GLOBAL;
  }
  const u64 low = u32(r.address);
  if (r.space == SHARED) {
    if (low + r.bytes > launch->shared_bytes) return refuse(t, OUT_OF_BOUNDS_SHARED, r, -1, s64(low));
    u8* host = cta->shared.data() + low;
    check_access(t, r, {{cta->cells.data(), cta->others.data()}, launch->shared_cell_log2, r.bytes, low, -1}, host, false);
    return host;
  }
  if (r.space == LOCAL) {
    if (low + r.bytes > launch->local_bytes) return refuse(t, OUT_OF_BOUNDS_LOCAL, r, -2, s64(low));
    return t->local + low;
  }
  const u64 number = (r.address >> BUFFER_SHIFT) - 1;
  if (number >= launch->buffers) return refuse(t, NO_BUFFER, r, -3, s64(r.address));
  const Buffer& b = launch->buffer[number];
  const u64 offset = r.address - b.address;
  if (offset >= b.bytes || offset + r.bytes > b.bytes)
    return refuse(t, OUT_OF_BOUNDS, r, s64(number), s64(offset));
  check_access(t, r, {b.shadow, b.cell_log2, r.bytes, offset, s64(number)}, b.host + offset, b.initialised);
  return b.host + offset;
}

// A thread that has read and written nothing new lets the others go on.
inline void spun(Thread* t) {
  t->spinning = true;
  spins++;
  yield(t);
}

inline void maybe_preempt(Thread* t) {
  if (++slice > 20000) {  // it may be waiting for what others do, by plain loads
    quiet += 1000;
    spun(t);
  } else if (launch->preempt && random_number() % launch->preempt == 0) {
    yield(t);
  }
}

inline void copy(void* to, const void* from, u32 bytes) {  // as memcpy, fast for most accesses
  if (bytes == 4) memcpy(to, from, 4);
  else memcpy(to, from, bytes);
}

inline void put(u8* host, const void* value, u32 bytes) {
  if (bytes == 4 ? !memcmp(host, value, 4) : !memcmp(host, value, bytes)) return;
  copy(host, value, bytes);
  progress++;
}

void load(Thread* t, u32 space, u64 address, u32 pc, bool constant, void* value, u32 bytes) {
  maybe_preempt(t);
  launch->loads++;
  copy(value, resolve(t, {space, address, bytes, pc, false, false, constant, nullptr}), bytes);
}

void store(Thread* t, u32 space, u64 address, u32 pc, const void* value, u32 bytes) {
  maybe_preempt(t);
  launch->stores++;
  u8* host = resolve(t, {space, address, bytes, pc, true, false, false, static_cast<const u8*>(value)});
  if (host == nowhere) return;
  put(host, value, bytes);
  weak_write(host);
}

void load_ordered(Thread* t, u32 space, u64 address, u32 pc, u32 order, void* value, u32 bytes) {
  maybe_preempt(t);
  launch->loads++;
  const u8* host = resolve(t, {space, address, bytes, pc, false, true, false, nullptr});
  memcpy(value, host, bytes);
  ordered_read(t, host, space == SHARED ? order | SCOPE_CTA : order);
  spun(t);
}

void store_ordered(Thread* t, u32 space, u64 address, u32 pc, u32 order, const void* value, u32 bytes) {
  maybe_preempt(t);
  launch->stores++;
  u8* host = resolve(t, {space, address, bytes, pc, true, true, false, static_cast<const u8*>(value)});
  if (host == nowhere) return;
  put(host, value, bytes);
  ordered_write(t, host, space == SHARED ? order | SCOPE_CTA : order, false);
}

u8* begin_atomic(Thread* t, u32 space, u64 address, u32 pc, void* old, u32 bytes) {
  maybe_preempt(t);
  u8* host = resolve(t, {space, address, bytes, pc, true, true, false, nullptr});
  memcpy(old, host, bytes);
  return host;
}

void end_atomic(Thread* t, u8* host, u32 space, u32 order, const void* old, const void* updated, u32 bytes) {
  if (host == nowhere) return;
  if (space == SHARED) order |= SCOPE_CTA;
  ordered_read(t, host, order);
  ordered_write(t, host, order, true);
  put(host, updated, bytes);
  if (!memcmp(old, updated, bytes)) spun(t);
}
