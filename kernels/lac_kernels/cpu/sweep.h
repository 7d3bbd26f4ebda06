// The two sweeps over the steps of one strip of rows.
//
//     lane 0, row i      | 0  1  2  3  4  5  .  .      At step t lane l stands on column t - l (the numbers are steps):
//     lane 1, row i + 1  |    1  2  3  4  5  6  .      all that a cell needs of its left, upper and diagonal neighbour
//     lane 2, row i + 2  |       2  3  4  5  6  7      was computed one or two steps before, by the same lane or by the
//     lane 3, row i + 3  |          3  4  5  6  7      one above it. Lane 0 takes it from the row that the strip above
//                                                      left behind; the last lane leaves its own there for the next.
//
// Steps are done L at a time: a tile of L x L scores is read along the rows and transposed in registers, and posteriors
// leave the same way. The last lane leaves its numbers L - 1 columns behind where lane 0 reads, so one row serves both.
// Backward all of it is upside down: lane l takes from lane l + 1, and the last lane from the strip below.

#pragma once

#include <limits>
#include <type_traits>

#include "exponents.h"
#include "tile.h"

namespace {

template <class R>
void read_gap(const Pair<R>& p, const Matrix& gap, int64_t i, int64_t t, typename Lanes<R>::V* tile) {
    if (gap.row == 0 && gap.column == 0)
        for (int k = 0; k < Lanes<R>::L; k++) tile[k] = number_at<R>(gap.data) - typename Lanes<R>::V{};
    else read_tile<R>(gap, p.n, p.m, i, t, 0, tile);
}

// The weights of a penalty that differs from cell to cell, at steps t .. t + L - 1.
template <class P, class R>
void read_gap_weights(const Pair<R>& p, const Gap& gap, int64_t i, int64_t t, typename P::Weight* weights,
                      typename Lanes<R>::VI& sound) {
    constexpr int L = Lanes<R>::L;
    typename Lanes<R>::V value[L], direction[L]{};
    read_gap(p, gap.value, i, t, value);
    if constexpr (P::Value::DUAL) read_gap(p, gap.direction, i, t, direction);
    for (int k = 0; k < L; k++) weights[k] = P::weight(-value[k], -direction[k], p.rate, sound);
}

template <class P, class R>
void read_score_weights(const Pair<R>& p, int64_t i, int64_t t, typename P::Weight* weights,
                        typename Lanes<R>::VI& sound) {
    constexpr int L = Lanes<R>::L;
    typename Lanes<R>::V tile[L], direction[L];
    read_tile<R>(p.scores, p.n, p.m, i, t, -std::numeric_limits<R>::infinity(), tile);
    if constexpr (P::Value::DUAL) read_tile<R>(p.direction, p.n, p.m, i, t, 0, direction);
    for (int k = 0; k < L; k++) weights[k] = P::weight(tile[k], direction[k], p.rate, sound);
}

// Steps [from, to) of the strip that starts at row i. With S = void they add d to `total`, else they fill slots.
template <class P, bool CELL, class S, class N = typename P::Value, class R = typename N::Real>
void advance(const Pair<R>& p, int64_t i, int64_t from, int64_t to, Forward<N>& state, Rows<N>& top, S* slot,
             N& total, typename Lanes<R>::VI& sound) {
    constexpr int L = Lanes<R>::L;
    using Weight = typename P::Weight;
    const Weight pair_open = P::gap_weight(p.open_weight, p.open);
    const Weight pair_extend = P::gap_weight(p.extend_weight, p.extend);
    Forward<N> a = state;
    N diagonal = above(a.h_before, top.row[2], from - 1);
    for (int64_t t = from; t < to; t += L) {
        Weight s[L], go[CELL ? L : 1], ge[CELL ? L : 1];
        read_score_weights<P>(p, i, t, s, sound);
        if constexpr (CELL) {
            read_gap_weights<P>(p, p.open, i, t, go, sound);
            read_gap_weights<P>(p, p.extend, i, t, ge, sound);
        }
#pragma GCC unroll 1
        for (int k = 0; k < L; k++) {
            const int64_t c = t + k;  // lane 0's column
            const Above<N> from_above{above(a.dx, top.row[0], c), above(a.y, top.row[1], c),
                                      above(a.h, top.row[2], c), diagonal};
            P::forward(a, from_above, s[k], CELL ? go[k] : pair_open, CELL ? ge[k] : pair_extend);
            diagonal = from_above.h;
            top.take(c - L + 1, L - 1, a.dx, a.y, a.h);
            if constexpr (std::is_void<S>::value) {
                total = sum(total, a.d);
            } else {
                slot->s = s[k], slot->d = a.d;
                if constexpr (S::GAPS)
                    slot->x = P::part(a.x), slot->dx_above = from_above.dx, slot->y_above = P::part(from_above.y);
                slot++;
            }
        }
    }
    state = a;
}

// The same steps backwards. `slot` is that of step `from`; the one before it holds d and x of step from - 1.
template <class S, bool CELL, class P = typename S::Exponents, class N = typename P::Value, class R = typename N::Real>
void retreat(const Pair<R>& p, int64_t i, int64_t from, int64_t to, Backward<N>& state, Rows<N>& below,
             const S* slot, GapSums& d_gaps) {
    constexpr int L = Lanes<R>::L;
    constexpr bool GAPS = S::GAPS;
    using V = typename Lanes<R>::V;
    using VI = typename Lanes<R>::VI;
    using Weight = typename P::Weight;
    const Weight pair_open = P::gap_weight(p.open_weight, p.open);
    const Weight pair_extend = P::gap_weight(p.extend_weight, p.extend);
    const R z = p.z_derivative;
    const VI z_low = p.z_low - VI{};
    Backward<N> a = state;
    N diagonal = under(a.match_after, below.row[2], to - L + 1);
    V opened{}, extended{};
    for (int64_t t = to - L; t >= from; t -= L) {
        V tile[L], tile_open[CELL && GAPS ? L : 1], tile_extend[CELL && GAPS ? L : 1];
        Weight go[CELL ? L : 1], ge[CELL ? L : 1];
        VI sound{};
        if constexpr (CELL) {
            read_gap_weights<P>(p, p.open, i, t, go, sound);
            read_gap_weights<P>(p, p.extend, i, t, ge, sound);
        }
#pragma GCC unroll 1
        for (int k = L - 1; k >= 0; k--) {
            const int64_t c = t + k - L + 1;  // the last lane's column
            const S* at = slot + (t + k - from);
            const Under<N> from_below{under(a.open_y, below.row[0], c), under(a.extend_y, below.row[1], c),
                                      under(a.match, below.row[2], c), diagonal};
            const N bd = P::backward(a, from_below, at->s, CELL ? go[k] : pair_open, CELL ? ge[k] : pair_extend);
            diagonal = from_below.match;
            below.take(c + L - 1, 0, a.open_y, a.extend_y, a.match);
            tile[k] = share(at->d, bd, z_low, z) * p.grad_over_z;
            if constexpr (GAPS) {
                const auto shares = P::gap_shares(a, at, z_low, z);
                if constexpr (CELL) {
                    tile_open[k] = shares.open * P::SHARE_UNIT * p.grad_over_z;
                    tile_extend[k] = shares.extend * P::SHARE_UNIT * p.grad_over_z;
                } else {
                    opened += shares.open;
                    extended += shares.extend;
                }
            }
        }
        write_tile<R>(p.d_scores, p.d_type, p.width, p.n, p.m, i, t, tile);
        if constexpr (CELL && GAPS) {
            d_gaps[OPEN] -= reduce_tile<R>(p.open, p.n, p.m, i, t, tile_open);
            d_gaps[EXTEND] -= reduce_tile<R>(p.extend, p.n, p.m, i, t, tile_extend);
        }
    }
    state = a;
    if constexpr (GAPS && !CELL)
        for (int l = 0; l < L; l++) {
            d_gaps[OPEN] -= double(opened[l]) * P::SHARE_UNIT * double(p.grad_over_z);
            d_gaps[EXTEND] -= double(extended[l]) * P::SHARE_UNIT * double(p.grad_over_z);
        }
}

}  // namespace
