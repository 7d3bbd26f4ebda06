// A launch and what lives in it: CTAs, their warps, their threads. Layouts of Buffer, Finding and Launch: launch.py.
#pragma once
#include <vector>

#include "clocks.h"
#include "kinds.h"  // the kinds of findings, written from findings.py
#include "numbers.h"

using Fiber = void*;  // a stack of its own, while it does not run: its stack pointer

struct Buffer {
  u8* host;
  u64 bytes, address;  // as the kernel sees it
  Shadow shadow;
  u32 initialised, cell_log2;
};

struct Finding {
  u32 kind, pc, other_pc, thread, other_thread, cta, other_cta, bytes;
  s64 buffer, offset;
  u64 count;
};

struct Launch {
  u32 grid[3], threads, resident, schedule, preempt, most_findings;
  u32 buffers, shared_bytes, shared_cell_log2, local_bytes;
  u64 seed, most_idle;
  Buffer* buffer;
  const u8* parameters;
  Finding* finding;
  u32 findings, tracing;
  u64 switches, collectives, barriers, loads, stores;
};

struct Traced {  // an access, for those who want to see them all
  u32 cta, thread, pc, barriers, bytes, write;  // barriers: how many of the CTA the thread has passed
  s64 buffer, offset;
};

enum Schedule : u32 { FORWARD, REVERSE, RANDOM, ONE_WARP_AHEAD };
enum State : u32 { RUNNING, IN_COLLECTIVE, AT_BARRIER, DONE };
const u32 NOBODY = ~0u;

struct Copy {  // of cp.async, not yet done
  u64 to, from;
  u32 bytes, from_bytes, pc;  // what is beyond from_bytes is filled with zeros
};

struct Thread {
  Fiber fiber;
  u32 number, lane, warp, state, pc;  // number: in the CTA; pc: where it waits
  u32 cta[3];
  u32 collective, mask;               // the collective it waits in, and its member mask
  u64 in[5], out[4];                  // what it gives to a collective, and gets
  u32 barrier, expected;              // the barrier it waits at, and for how many threads (0: all)
  u32 barriers;                       // how many it has passed
  bool spinning;                      // it has read and written nothing new
  u8* local;
  u32 moment;                         // the latest of its accesses
  std::vector<Copy> copies;
  std::vector<std::vector<Copy>> copy_groups;
  u32 releases;                       // how many it has done
  Knowledge acquired;                 // since the last barrier of its warp
  Knowledge seen;                     // by relaxed reads, for the next fence to acquire
  Knowledge published;                // by its last fence, for relaxed writes to release
};

struct Warp {
  u32 alive, waiting;  // lanes
  u32 epoch;           // grows at each barrier of the warp or the CTA
  u32 known[32];       // accesses of warp k of this CTA in epochs below known[k] have happened
  Knowledge far;       // what is known beyond that
};

struct Cta {
  u32 number, alive;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<u8> shared, local;
  std::vector<Cell> cells;  // shadow of shared memory
  std::vector<OtherReads> others;
  u8* stacks;
  u32 arrived[16];          // threads at each barrier
};

inline Launch* launch;
inline Cta* cta;  // whose thread runs
inline Thread* running;
inline Fiber scheduler;
inline bool stopped;
inline std::vector<Traced> trace;
inline u64 progress, spins, quiet, slice;  // for finding deadlocks: see schedule.h
inline u64 random_state;

inline u32 warps_of_cta() { return (launch->threads + 31) / 32; }
inline Warp& warp_of(const Thread* t) { return cta->warps[t->warp]; }
inline u32 global_number(const Thread* t) { return cta->number * launch->threads + t->number; }
