// Release and acquire, as PTX has them: what a release publishes at an address, an acquire there learns.
#pragma once
#include "turns.h"

// What has been released where. Scope .cta, which shared memory has always, counts in the CTA alone.
struct Address {
  const u8* host;
  u32 cta;  // NOBODY: any
  bool operator==(const Address& other) const { return host == other.host && cta == other.cta; }
};
struct AddressHash {
  size_t operator()(const Address& a) const { return size_t(a.host) ^ size_t(a.cta) << 48; }
};
static std::unordered_map<Address, Knowledge, AddressHash> releases;

static Knowledge release(Thread* t) {
  const Warp& warp = warp_of(t);
  const u32 first = cta->number * warps_of_cta();
  Knowledge all = warp.far;
  all.learn(t->acquired);
  for (u32 k = 0; k < warps_of_cta(); k++)
    if (warp.known[k]) all.learn(Knowledge::of_warp(first + k), warp.known[k]);
  all.learn(Knowledge::of_warp(first + t->warp), warp.epoch);
  all.learn(Knowledge::of_thread(global_number(t)), ++t->releases);
  return all;
}

static void ordered_read(Thread* t, const u8* host, u32 order) {
  for (u32 who : {NOBODY, cta->number}) {
    if (who == NOBODY && (order & SCOPE_CTA)) continue;
    auto found = releases.find({host, who});
    if (found != releases.end()) (order & ACQUIRE ? t->acquired : t->seen).learn(found->second);
  }
}

// A read-modify-write goes on with a release sequence, another write ends it.
static void ordered_write(Thread* t, const u8* host, u32 order, bool read_modify_write) {
  const Knowledge mine = order & RELEASE ? release(t) : t->published;
  if (mine.empty() && read_modify_write) return;
  for (u32 who : {NOBODY, cta->number}) {
    Knowledge& there = releases[{host, who}];
    if (!read_modify_write) there.clear();
    if (who != NOBODY || !(order & SCOPE_CTA)) there.learn(mine);
  }
}

static void weak_write(const u8* host) {
  if (releases.empty()) return;
  for (u32 who : {NOBODY, cta->number}) releases.erase({host, who});
}

void fence(Thread* t) {
  t->acquired.learn(t->seen);
  t->seen.clear();
  t->published = release(t);
}
