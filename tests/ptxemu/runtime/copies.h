// cp.async: copies from global to shared memory that happen when they are waited for, and no sooner.
#pragma once
#include "memory.h"

void copy_later(Thread* t, u64 to, u64 from, u32 bytes, u32 from_bytes, u32 pc) {
  t->copies.push_back({to, from, bytes, from_bytes, pc});
}

void commit_copies(Thread* t) {
  t->copy_groups.push_back(std::move(t->copies));
  t->copies.clear();
}

static void copy_now(Thread* t, const Copy& c) {
  u8 value[16] = {};
  if (c.from_bytes)
    memcpy(value, resolve(t, {GLOBAL, c.from, c.from_bytes, c.pc, false, false, false, nullptr}), c.from_bytes);
  u8* host = resolve(t, {SHARED, c.to, c.bytes, c.pc, true, false, false, value});
  if (host != nowhere) put(host, value, c.bytes);
}

// Until at most `pending` groups are not done.
void wait_for_copies(Thread* t, u32 pending) {
  while (t->copy_groups.size() > pending) {
    for (const Copy& c : t->copy_groups.front()) copy_now(t, c);
    t->copy_groups.erase(t->copy_groups.begin());
  }
}
