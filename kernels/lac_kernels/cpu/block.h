// Blocks of rows, window by window.

#pragma once

#include "sweep.h"
#include "threads.h"

namespace {

struct Partial {  // what one block adds to its pair
    Total z;
    bool sound = true;
    double d_gaps[2] = {0, 0};
};

// What lies above a pair in these columns, or in all of them; what lies below it.
template <class N>
void start_top(const Pair<typename N::Real>& p, Rows<N>& top, int64_t first, int64_t last) {
    top.fill(first, last, zero<N>(p), zero<N>(p), constant<N>(1, 0));
}

template <class N>
void start_top(const Pair<typename N::Real>& p, Rows<N>& top) {
    start_top(p, top, -N::T::L, p.m + 2 * N::T::L);
}

template <class N>
void start_below(const Pair<typename N::Real>& p, Rows<N>& below) {
    below.fill(-N::T::L, p.m + 3 * N::T::L, zero<N>(p), zero<N>(p), zero<N>(p));
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

// The sweeps for this pair: derivatives have the form with an exponent for each number only.
template <class N, bool CELL, class S, class R = typename N::Real>
auto advance_form(const Pair<R>& p) {
    if constexpr (!N::DUAL)
        if (p.shared) return &advance_shared<R, CELL, S>;
    return &advance<N, CELL, S, R>;
}

template <class N, bool CELL, class S, class R = typename N::Real>
auto retreat_form(const Pair<R>& p) {
    if constexpr (!N::DUAL)
        if (p.shared) return &retreat_shared<R, CELL, S>;
    return &retreat<N, CELL, S, R>;
}

template <class N, bool CELL, class R = typename N::Real>
void forward_block(const Pair<R>& p, int64_t block, Rows<N>& top, Progress* progress, Partial& result) {
    constexpr int L = Lanes<R>::L, PARTS = Rows<N>::PARTS;
    using VI = typename Lanes<R>::VI;
    const int64_t strips = p.strips(block), windows = p.windows_of(block);
    Forward<N> state[Pair<R>::STRIPS];
    N total = constant<N>(0, Lanes<R>::NEVER);
    VI sound = ~VI{};
    for (int64_t w = 0; w < windows; w++) {
        if (progress && block > 0) {
            const int64_t all = p.windows_of(block - 1);
            progress->wait(block - 1, w + 2 < all ? w + 2 : all);
        }
        for (int64_t k = 0; k < strips; k++) {
            const Span<R> span(p, w, k);
            if (span.start <= 0) state[k] = start_lanes<N>(p);
            if (p.saved && span.resumes(p)) keep(state[k], p.lanes(block, k, w, PARTS));
            if (span.from >= span.to) continue;
            const int64_t at = span.from, count = (span.to < p.m ? span.to : p.m) - at;
            if (p.saved && block > 0 && k == 0 && count > 0) {
                R* edge = p.edge(block, PARTS) + at;
                top.row[0].save(at, count, edge, p.width);
                top.row[1].save(at, count, edge + PARTS * p.width, p.width);
            }
            advance_form<N, CELL, void>(p)(p, block * ROWS + L * k, span.from, span.to, state[k], top, nullptr, total,
                                           sound);
            sound &= (VI)(total.e < VI{} + Lanes<R>::MOST);
        }
        if (progress) progress->step(block);
    }
    for (int l = 0; l < L; l++) {
        double derivative = 0;
        if constexpr (N::DUAL) derivative = double(total.t[l]);
        result.z.add(double(total.m[l]), derivative, total.e[l]);
        result.sound = result.sound && sound[l] != 0;
    }
}

template <class S, bool CELL, class N = typename S::Value, class R = typename N::Real>
void backward_block(const Pair<R>& p, int64_t block, Rows<N>& top, Memory& slots, Rows<N>& below,
                    Progress* progress, Partial& result) {
    constexpr int L = Lanes<R>::L, PARTS = Rows<N>::PARTS;
    const int64_t strips = p.strips(block), windows = p.windows_of(block);
    const int64_t room = (COLUMNS < p.steps() ? COLUMNS : p.steps()) + 1;
    slots.reserve(size_t(strips * room) * sizeof(S));
    const auto none = zero<N>(p);
    Backward<N> back[Pair<R>::STRIPS];
    for (auto& b : back) b = {none, none, none, none, none, none};
    N unused_total = none;
    typename Lanes<R>::VI unused_sound{};
    for (int64_t w = windows - 1; w >= 0; w--) {
        if (progress && block + 1 < p.blocks())
            progress->wait(block + 1, p.windows_of(block + 1) - (w > 0 ? w - 1 : 0));
        // All columns that a strip of this window looks at: the lowest starts first, and above it there may be none left.
        const Span<R> first(p, w, 0), lowest(p, w, strips - 1);
        const int64_t begin = first.from > 0 ? first.from - 1 : 0, end = first.to < p.m ? first.to : p.m;
        start_top(p, top, lowest.from - L, first.to + L);
        if (block > 0 && begin < end) {
            const R* edge = p.edge(block, PARTS) + begin;
            const int64_t count = end - begin;
            top.row[0].restore(begin, count, edge, p.width);
            top.row[1].restore(begin, count, edge + PARTS * p.width, p.width);
            for (int64_t c = begin; c < end; c += L)
                top.row[2].put(c, one_plus(top.row[0].from(c), top.row[1].from(c)));
        }
        for (int64_t k = 0; k < strips; k++) {
            const Span<R> span(p, w, k);
            Forward<N> state = start_lanes<N>(p);
            if (span.resumes(p)) {
                state = kept<N>(p.lanes(block, k, w, PARTS));
                const int64_t c = span.start - L;  // where the last lane stands; the strip below starts there
                top.row[0].take(c, state.dx, L - 1);
                top.row[1].take(c, state.y, L - 1);
                top.row[2].take(c, state.h, L - 1);
                top.row[2].take(c - 1, state.h_before, L - 1);
            }
            if (span.from >= span.to) continue;
            S* slot = (S*)slots.p + k * room;
            slot->d = state.d;
            if constexpr (S::GAPS) slot->x = state.x;
            advance_form<N, CELL, S>(p)(p, block * ROWS + L * k, span.from, span.to, state, top, slot + 1, unused_total,
                                        unused_sound);
        }
        for (int64_t k = strips - 1; k >= 0; k--) {
            const Span<R> span(p, w, k);
            if (span.from >= span.to) continue;
            retreat_form<N, CELL, S>(p)(p, block * ROWS + L * k, span.from, span.to, back[k], below,
                                        (const S*)slots.p + k * room + 1, result.d_gaps);
        }
        if (progress) progress->step(block);
    }
}

}  // namespace
