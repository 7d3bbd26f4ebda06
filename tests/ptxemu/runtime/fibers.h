// Fibers: each thread of a CTA has a stack of its own, and control is handed from one to another.
#pragma once
#include <sys/mman.h>

#include "state.h"

const size_t STACK = 256 * 1024;

#if !defined(__x86_64__)
#error "the emulator switches between threads by instructions of x86-64"
#endif

// Saves the registers that a called function must keep, and goes on with `to`.
extern "C" void switch_fiber(Fiber* save, Fiber to);
asm(R"(
.text
.globl switch_fiber
.hidden switch_fiber
.type switch_fiber,@function
switch_fiber:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp,(%rdi)
  mov %rsi,%rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");

// A fiber that begins with `function` (which never returns) on the stack that ends at `top`.
inline Fiber new_fiber(u8* top, void (*function)()) {
  u64* stack = reinterpret_cast<u64*>(top - 64);
  *--stack = 0;  // the return address of `function`, which also aligns its frame
  *--stack = reinterpret_cast<u64>(function);
  for (int i = 0; i < 6; i++) *--stack = 0;
  return stack;
}

inline u8* new_stacks(u32 n) {
  void* memory = mmap(nullptr, STACK * n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<u8*>(memory);
}
