// The two sweeps over a block of rows, window by window. Here a block of four strips of L rows:
//
//     columns    0                                                          m
//     ==========================================================================  edge: the row above a block is kept
//     strip 0    |        window 0        |        window 1        |  window 2 |
//     strip 1    |      window 0      |        window 1        |    window 2   |
//     strip 2    |    window 0    |        window 1        |      window 2     |
//     strip 3    |  window 0  |        window 1        |        window 2       |
//     ==========================================================================  edge of the next block
//
// Each strip runs L steps behind the one above it, as each lane runs one behind the lane above it, so its part of a
// window (COLUMNS steps) starts L columns further left. At each | but the first the forward keeps the lanes' state. It
// goes through the windows from left to right and through their strips downwards. The backward goes through the windows
// from right to left: it runs the forward again through one of them, from what was kept, into slots, and then goes back
// through its strips upwards. Both hold one row of numbers between strips, which each strip overwrites.

#pragma once

#include "sweep.h"
#include "threads.h"

namespace {

struct Partial {  // what a block adds to its pair, or all of them
    Total z;
    bool sound = true;
    GapSums d_gaps = {0, 0};
};

// What lies above a pair in these columns, or in all of them; what lies below it; the lanes before its first column.
template <class P, class N = typename P::Value>
void start_top(Rows<N>& top, int64_t first, int64_t last) {
    top.fill(first, last, P::zero(), P::zero(), constant<N>(1, 0));
}

template <class P, class N = typename P::Value>
void start_top(const Pair<typename N::Real>& p, Rows<N>& top) {
    start_top<P>(top, -N::T::L, p.m + 2 * N::T::L);
}

template <class P, class N = typename P::Value>
void start_below(const Pair<typename N::Real>& p, Rows<N>& below) {
    below.fill(-N::T::L, p.m + 3 * N::T::L, P::zero(), P::zero(), P::zero());
}

template <class P, class N = typename P::Value>
Forward<N> start_lanes() {
    const auto none = P::zero(), one = constant<N>(1, 0);
    return {none, none, none, none, one, one};
}

// Steps of strip k that fall into a window: from and to; start is where the window starts for the strip.
template <class R>
struct Span {
    int64_t start, from, to;
    Span(const Pair<R>& p, int64_t window, int64_t k) {
        start = window * COLUMNS - Lanes<R>::L * k;
        from = start > 0 ? start : 0;
        to = start + COLUMNS < p.steps() ? start + COLUMNS : p.steps();
    }
    bool resumes(const Pair<R>& p) const { return start > 0 && start <= p.steps(); }
};

template <class N>
void keep(const Forward<N>& a, typename N::Real* to) {
    for (const N* x : {&a.d, &a.x, &a.y, &a.h_before}) {
        std::memcpy(to, x, sizeof *x);
        to += sizeof *x / sizeof *to;
    }
}

template <class N>
Forward<N> kept(const typename N::Real* from) {
    N all[4];
    std::memcpy(all, from, sizeof all);
    const auto dx = sum(all[0], all[1]);
    return {all[0], all[1], all[2], dx, one_plus(dx, all[2]), all[3]};
}

// Where threads share a pair the block above must be two windows ahead: strips look beyond the end of their own window.
template <class R>
void wait_for_block_above(const Pair<R>& p, int64_t block, int64_t window, const Progress& progress) {
    const int64_t all = p.windows_of(block - 1);
    progress.wait(block - 1, window + 2 < all ? window + 2 : all);
}

template <class R>
void wait_for_block_below(const Pair<R>& p, int64_t block, int64_t window, const Progress& progress) {
    progress.wait(block + 1, p.windows_of(block + 1) - (window > 0 ? window - 1 : 0));
}

template <class N, class R = typename N::Real>
void add_lanes(const N& total, Total& z) {
    for (int l = 0; l < Lanes<R>::L; l++) {
        double derivative = 0;
        if constexpr (N::DUAL) derivative = double(total.t[l]);
        z.add(double(total.m[l]), derivative, total.e[l]);
    }
}

// The part of the row above the block that falls into a window, of `width` columns in all.
template <class N, class R = typename N::Real>
void keep_edge(const Pair<R>& p, int64_t block, const Span<R>& span, const Rows<N>& top) {
    const int64_t count = smallest(span.to, p.m) - span.from;
    if (count <= 0) return;
    R* edge = p.edge(block, N::PARTS) + span.from;
    top.row[0].save(span.from, count, edge, p.width);
    top.row[1].save(span.from, count, edge + N::PARTS * p.width, p.width);
}

template <class P, bool CELL, class N = typename P::Value, class R = typename N::Real>
void forward_block(const Pair<R>& p, int64_t block, Rows<N>& top, Progress* progress, Partial& result) {
    using VI = typename Lanes<R>::VI;
    Forward<N> state[Pair<R>::STRIPS];
    VI sound = ~VI{};
    for (int64_t w = 0; w < p.windows_of(block); w++) {
        N total = constant<N>(0, Lanes<R>::NEVER);  // of this window alone: a float rounds a sum of many as it grows
        if (progress && block > 0) wait_for_block_above(p, block, w, *progress);
        for (int64_t k = 0; k < p.strips(block); k++) {
            const Span<R> span(p, w, k);
            if (span.start <= 0) state[k] = start_lanes<P>();
            if (p.saved && span.resumes(p)) keep(state[k], p.lanes(block, k, w, N::PARTS));
            if (span.from >= span.to) continue;
            if (p.saved && block > 0 && k == 0) keep_edge(p, block, span, top);
            advance<P, CELL, void>(p, p.row(block, k), span.from, span.to, state[k], top, nullptr, total, sound);
            sound &= (VI)(total.e < VI{} + Lanes<R>::MOST);
        }
        add_lanes(total, result.z);
        if (progress) progress->step(block);
    }
    for (int l = 0; l < Lanes<R>::L; l++) result.sound = result.sound && sound[l] != 0;
}

// The row above a block, in all columns that a strip of this window looks at: the lowest starts first, and above it
// there may be none left.
template <class P, class N = typename P::Value, class R = typename N::Real>
void restore_edge(const Pair<R>& p, int64_t block, int64_t window, Rows<N>& top) {
    constexpr int L = Lanes<R>::L;
    const Span<R> first(p, window, 0), lowest(p, window, p.strips(block) - 1);
    const int64_t begin = first.from > 0 ? first.from - 1 : 0, end = smallest(first.to, p.m);
    start_top<P>(top, lowest.from - L, first.to + L);
    if (block == 0 || begin >= end) return;
    const R* edge = p.edge(block, N::PARTS) + begin;
    top.row[0].restore(begin, end - begin, edge, p.width);
    top.row[1].restore(begin, end - begin, edge + N::PARTS * p.width, p.width);
    for (int64_t c = begin; c < end; c += L) top.row[2].put(c, one_plus(top.row[0].from(c), top.row[1].from(c)));
}

// The lanes where a strip's window starts, and what the last of them leaves for the strip below, which starts there.
template <class P, class N = typename P::Value, class R = typename N::Real>
Forward<N> restore_lanes(const Pair<R>& p, int64_t block, int64_t k, int64_t window, Rows<N>& top) {
    constexpr int L = Lanes<R>::L;
    const Span<R> span(p, window, k);
    if (!span.resumes(p)) return start_lanes<P>();
    const auto state = kept<N>(p.lanes(block, k, window, N::PARTS));
    const int64_t c = span.start - L;  // where the last lane stands
    top.take(c, L - 1, state.dx, state.y, state.h);
    top.row[2].take(c - 1, state.h_before, L - 1);
    return state;
}

// The forward through one window again. Each strip has `room` slots; its first is that of the step before.
template <class S, bool CELL, class P = typename S::Exponents, class N = typename P::Value, class R = typename N::Real>
void replay_window(const Pair<R>& p, int64_t block, int64_t window, Rows<N>& top, S* slots, int64_t room) {
    N unused_total = P::zero();
    typename Lanes<R>::VI unused_sound{};
    restore_edge<P>(p, block, window, top);
    for (int64_t k = 0; k < p.strips(block); k++) {
        auto state = restore_lanes<P>(p, block, k, window, top);
        const Span<R> span(p, window, k);
        if (span.from >= span.to) continue;
        S* slot = slots + k * room;
        slot->d = state.d;
        if constexpr (S::GAPS) slot->x = P::part(state.x);
        advance<P, CELL>(p, p.row(block, k), span.from, span.to, state, top, slot + 1, unused_total, unused_sound);
    }
}

template <class S, bool CELL, class P = typename S::Exponents, class N = typename P::Value, class R = typename N::Real>
void backward_block(const Pair<R>& p, int64_t block, Rows<N>& top, Memory& memory, Rows<N>& below, Progress* progress,
                    Partial& result) {
    const int64_t room = smallest(COLUMNS, p.steps()) + 1;
    memory.reserve(size_t(p.strips(block) * room) * sizeof(S));
    S* slots = (S*)memory.p;
    const N none = P::zero();
    Backward<N> state[Pair<R>::STRIPS];
    for (auto& lanes : state) lanes = {none, none, none, none, none, none};
    for (int64_t w = p.windows_of(block) - 1; w >= 0; w--) {
        if (progress && block + 1 < p.blocks()) wait_for_block_below(p, block, w, *progress);
        replay_window<S, CELL>(p, block, w, top, slots, room);
        for (int64_t k = p.strips(block) - 1; k >= 0; k--) {
            const Span<R> span(p, w, k);
            if (span.from >= span.to) continue;
            retreat<S, CELL>(p, p.row(block, k), span.from, span.to, state[k], below, slots + k * room + 1,
                             result.d_gaps);
        }
        if (progress) progress->step(block);
    }
}

}  // namespace
