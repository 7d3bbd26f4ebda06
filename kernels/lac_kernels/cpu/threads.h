// Threads that live for one call, and how they wait for one another.

#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

namespace {

// Calls run(k, count) for k < count in as many threads as the machine gives, `count` of them at most.
template <class Run>
void parallel(int64_t count, const Run& run) {
    std::atomic<int64_t> started{0};
    std::vector<std::thread> threads;
    const auto body = [&](int64_t k) {
        while (!started.load(std::memory_order_acquire)) std::this_thread::yield();
        run(k, started.load());
    };
    try {
        for (int64_t k = 1; k < count; k++) threads.emplace_back(body, k);
    } catch (const std::exception&) {
        // fewer threads share the work
    }
    started.store(int64_t(threads.size()) + 1, std::memory_order_release);
    body(0);
    for (auto& t : threads) t.join();
}

// How many windows each block of rows has behind it, when blocks of one pair run in several threads.
struct Progress {
    std::vector<std::atomic<int64_t>> done;
    explicit Progress(int64_t blocks) : done(size_t(blocks)) {
        for (auto& d : done) d.store(0);
    }
    void wait(int64_t block, int64_t windows) const {
        while (done[size_t(block)].load(std::memory_order_acquire) < windows) std::this_thread::yield();
    }
    void step(int64_t block) { done[size_t(block)].fetch_add(1, std::memory_order_release); }
};

}  // namespace
