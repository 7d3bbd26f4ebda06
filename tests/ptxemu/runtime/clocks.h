// Happens-before. A clock counts the epochs of a warp (they end at barriers) or the releases of a thread; knowledge is
// how far which clocks are known to have run. Two accesses are in order where the later thread knows of the earlier one.
#pragma once
#include <unordered_map>
#include <vector>

#include "numbers.h"

// What the clocks of a thread show: it lasts until one of them goes on.
struct Moment {
  u32 thread, releases, epoch;  // the thread's number in the launch
};
inline std::vector<Moment> moments;

struct Access {
  u32 moment;             // index; 0: there was none
  u32 pc : 30;
  u32 strong : 1;         // an atomic or another access that races with no other strong one
  u32 others : 1;         // of a cell's latest read: there are others
};

// Shadow of a few bytes of memory (1, 2 or 4: as the kernel's narrowest access): the last write, and the latest read
// since. Most memory is read by one thread, so what others read lies apart, for the sake of the processor's caches.
struct Cell {
  Access write, read;
};
// The latest reads before that by another lane of the warp, by another warp, by another CTA.
struct OtherReads {
  Access by[3];
};
struct Shadow {
  Cell* cells;
  OtherReads* others;
};

class Knowledge {
  std::unordered_map<u32, u32> clocks;

 public:
  static u32 of_warp(u32 number) { return number; }
  static u32 of_thread(u32 number) { return 1u << 31 | number; }

  void learn(u32 clock, u32 until) {
    u32& known = clocks[clock];
    if (known < until) known = until;
  }
  void learn(const Knowledge& other) {
    for (auto& [clock, until] : other.clocks) learn(clock, until);
  }
  bool covers(u32 clock, u32 time) const {
    auto found = clocks.find(clock);
    return found != clocks.end() && time < found->second;
  }
  bool empty() const { return clocks.empty(); }
  void clear() { clocks.clear(); }
};
