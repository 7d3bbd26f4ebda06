// Aligned memory that grows, and poison for it.

#pragma once

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

// For tests: what new memory is filled with, so that whatever reads it before it is written shows; -1 leaves it.
std::atomic<int> poison{-1};

// 64-byte aligned memory.
struct Memory {
    char* p = nullptr;
    size_t size = 0;
    Memory() = default;
    Memory(const Memory&) = delete;
    ~Memory() { std::free(p); }
    void reserve(size_t bytes) {
        if (bytes <= size) return;
        std::free(p);
        size = (bytes + 63) / 64 * 64;
        p = (char*)std::aligned_alloc(64, size);
        if (!p) throw std::bad_alloc();
        if (poison >= 0) std::memset(p, poison, size);
    }
};

}  // namespace
