// The sweeps over the steps of one strip.

#pragma once

#include <limits>
#include <type_traits>

#include "pair.h"
#include "rows.h"

namespace {

template <class N>
struct Forward {  // lanes after a step; dx = d + x, h_before is one step older
    N d, x, y, dx, h, h_before;
};

template <class N>
struct Backward {  // lanes after a step; match_after is one step older
    N open_x, extend_x, open_y, extend_y, match, match_after;
};

template <class N>
struct Slot {
    using Value = N;
    static constexpr bool GAPS = false;
    N s, d;
};

template <class N>
struct GapSlot {
    using Value = N;
    static constexpr bool GAPS = true;
    N s, d, x, dx_above, y_above;
};

template <class N>
N zero(const Pair<typename N::Real>& p) {
    return p.shared ? constant<N>(0, 0) : constant<N>(1, N::T::NEVER);
}

template <class N>
Forward<N> start_lanes(const Pair<typename N::Real>& p) {
    const auto none = zero<N>(p), one = constant<N>(1, 0);
    return {none, none, none, none, one, one};
}

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

template <class R>
void read_gap(const Pair<R>& p, const Matrix& a, int64_t i, int64_t t, typename Lanes<R>::V* tile) {
    if (a.row == 0 && a.column == 0)
        for (int k = 0; k < Lanes<R>::L; k++) tile[k] = *(const R*)a.data - typename Lanes<R>::V{};
    else read_tile<R>(a, p.n, p.m, i, t, 0, tile);
}

template <class N, class R>
void read_gaps(const Pair<R>& p, int64_t i, int64_t t, N* go, N* ge, typename Lanes<R>::VI& sound) {
    constexpr int L = Lanes<R>::L;
    for (auto [gap, to] : {std::pair(&p.open, go), std::pair(&p.extend, ge)}) {
        typename Lanes<R>::V value[L], direction[L]{};
        read_gap(p, gap->value, i, t, value);
        if constexpr (N::DUAL) read_gap(p, gap->direction, i, t, direction);
        for (int k = 0; k < L; k++) to[k] = along<N>(exponential<R>(-value[k], p.rate, sound), -direction[k]);
    }
}

// The penalty's exp where the whole pair has one.
template <class N, class R>
INLINE N one_gap(const Number<R>& value, const Gap& gap) {
    if constexpr (N::DUAL) return along<N>(value, -*(const R*)gap.direction.data - typename Lanes<R>::V{});
    else return value;
}

// Steps [from, to) of the strip that starts at row i. With S = void they add d to `total`, else they fill slots.
template <class N, bool CELL, class S, class R = typename N::Real>
void advance(const Pair<R>& p, int64_t i, int64_t from, int64_t to, Forward<N>& state, Rows<N>& top, S* slot,
             N& total, typename Lanes<R>::VI& sound) {
    constexpr int L = Lanes<R>::L;
    using V = typename Lanes<R>::V;
    const N pair_open = one_gap<N>(p.go, p.open), pair_extend = one_gap<N>(p.ge, p.extend);
    auto [d, x, y, dx, h, h_before] = state;
    for (int64_t t = from; t < to; t += L) {
        V tile[L], direction[L];
        N s[L], go[CELL ? L : 1], ge[CELL ? L : 1], last[3][L];
        read_tile<R>(p.scores, p.n, p.m, i, t, -std::numeric_limits<R>::infinity(), tile);
        if constexpr (N::DUAL) read_tile<R>(p.direction, p.n, p.m, i, t, 0, direction);
        for (int k = 0; k < L; k++) s[k] = along<N>(exponential<R>(tile[k], p.rate, sound), direction[k]);
        if constexpr (CELL) read_gaps(p, i, t, go, ge, sound);
#pragma GCC unroll 1
        for (int k = 0; k < L; k++) {
            const int64_t c = t + k;
            const N o = CELL ? go[k] : pair_open, e = CELL ? ge[k] : pair_extend;
            x = normal_sum(o * d, e * x);
            const auto dx_above = above(dx, top.row[0], c), y_above = above(y, top.row[1], c);
            y = normal_sum(o * dx_above, e * y_above);
            d = s[k] * above(h_before, top.row[2], c - 1);
            d.e = smallest(d.e, 2 * Lanes<R>::MOST - typename Lanes<R>::VI{});  // too large anyway, and must not wrap
            dx = sum(d, x);
            h_before = h;
            h = one_plus(dx, y);
            last[0][k] = dx, last[1][k] = y, last[2][k] = h;
            if constexpr (std::is_void<S>::value) {
                total = sum(total, d);
            } else {
                slot->s = s[k], slot->d = d;
                if constexpr (S::GAPS)
                    slot->x = x, slot->dx_above = dx_above, slot->y_above = y_above;
                slot++;
            }
        }
        for (int r = 0; r < 3; r++)
            for (int k = 0; k < L; k++) top.row[r].take(t + k - L + 1, last[r][k], L - 1);
    }
    state = {d, x, y, dx, h, h_before};
}

// The same steps backwards. `slot` is that of step `from`; the one before it holds d and x of step from - 1.
template <class N, bool CELL, class S, class R = typename N::Real>
void retreat(const Pair<R>& p, int64_t i, int64_t from, int64_t to, Backward<N>& state, Rows<N>& below,
             const S* slot, double* d_gaps) {
    constexpr int L = Lanes<R>::L;
    constexpr bool GAPS = S::GAPS;
    using V = typename Lanes<R>::V;
    using VI = typename Lanes<R>::VI;
    const N pair_open = one_gap<N>(p.go, p.open), pair_extend = one_gap<N>(p.ge, p.extend);
    const R z = p.z_derivative;
    auto [open_x, extend_x, open_y, extend_y, match, match_after] = state;
    const VI low = p.z_low - VI{};
    V opened{}, extended{};
    for (int64_t t = to - L; t >= from; t -= L) {
        V tile[L], tile_open[CELL && GAPS ? L : 1], tile_extend[CELL && GAPS ? L : 1];
        N go[CELL ? L : 1], ge[CELL ? L : 1], first[3][L];
        VI sound{};
        if constexpr (CELL) read_gaps(p, i, t, go, ge, sound);
#pragma GCC unroll 1
        for (int k = L - 1; k >= 0; k--) {
            const int64_t c = t + k - L + 1;
            const S* at = slot + (t + k - from);
            const N o = CELL ? go[k] : pair_open, e = CELL ? ge[k] : pair_extend;
            const auto bh = under(match_after, below.row[2], c + 1);
            const auto y_open = under(open_y, below.row[0], c), y_extend = under(extend_y, below.row[1], c);
            const auto bd = one_plus(bh, open_x, y_open);
            const auto bx = normal_sum(bh, extend_x, y_open);
            const auto by = normal_sum(bh, y_extend);
            open_x = o * bx, extend_x = e * bx, open_y = o * by, extend_y = e * by;
            match_after = match;
            match = at->s * bd;
            first[0][k] = open_y, first[1][k] = extend_y, first[2][k] = match;
            tile[k] = share(at->d, bd, low, z) * p.grad_over_z;
            if constexpr (GAPS) {
                const V by_open = share(open_x, at[-1].d, low, z) + share(open_y, at->dx_above, low, z);
                const V by_extend = share(extend_x, at[-1].x, low, z) + share(extend_y, at->y_above, low, z);
                if constexpr (CELL) {
                    tile_open[k] = by_open * p.grad_over_z;
                    tile_extend[k] = by_extend * p.grad_over_z;
                } else {
                    opened += by_open;
                    extended += by_extend;
                }
            }
        }
        write_tile<R>(p.d_scores, p.d_type, p.width, p.n, p.m, i, t, tile);
        if constexpr (CELL && GAPS) {
            d_gaps[0] -= reduce_tile<R>(p.open, p.n, p.m, i, t, tile_open);
            d_gaps[1] -= reduce_tile<R>(p.extend, p.n, p.m, i, t, tile_extend);
        }
        for (int r = 0; r < 3; r++)
            for (int k = 0; k < L; k++) below.row[r].take(t + k, first[r][k], 0);
    }
    state = {open_x, extend_x, open_y, extend_y, match, match_after};
    if constexpr (GAPS && !CELL)
        for (int l = 0; l < L; l++) {
            d_gaps[0] -= double(opened[l]) * double(p.grad_over_z);
            d_gaps[1] -= double(extended[l]) * double(p.grad_over_z);
        }
}

// The same two sweeps with one exponent for d, x and y of a cell (for bx, by and the four products, backwards), and
// one for h (for bd and s bd). A value 2^126 below the largest of its cell is lost, so this needs `fits_shared`.

template <class R>
void read_plain_gaps(const Pair<R>& p, int64_t i, int64_t t, typename Lanes<R>::V* go, typename Lanes<R>::V* ge) {
    constexpr int L = Lanes<R>::L;
    read_gap(p, p.open.value, i, t, go);
    read_gap(p, p.extend.value, i, t, ge);
    for (int k = 0; k < L; k++) {
        go[k] = plain_exponential<R>(-go[k], p.rate);
        ge[k] = plain_exponential<R>(-ge[k], p.rate);
    }
}

template <class R, bool CELL, class S>
void advance_shared(const Pair<R>& p, int64_t i, int64_t from, int64_t to, Forward<Number<R>>& state, Rows<Number<R>>& top,
                    S* slot, Number<R>& total, typename Lanes<R>::VI&) {
    constexpr int L = Lanes<R>::L;
    using V = typename Lanes<R>::V;
    using VI = typename Lanes<R>::VI;
    std::make_integer_sequence<int, L> lanes;
    auto [d, x, y, dx, h, h_before] = state;
    auto diagonal = above(h_before, top.row[2], from - 1);
    for (int64_t t = from; t < to; t += L) {
        V s[L], go[CELL ? L : 1], ge[CELL ? L : 1];
        Number<R> last[3][L];
        read_tile<R>(p.scores, p.n, p.m, i, t, -std::numeric_limits<R>::infinity(), s);
        for (int k = 0; k < L; k++) s[k] = plain_exponential<R>(s[k], p.rate);
        if constexpr (CELL) read_plain_gaps<R>(p, i, t, go, ge);
#pragma GCC unroll 1
        for (int k = 0; k < L; k++) {
            const int64_t c = t + k;
            const V o = CELL ? go[k] : p.go.m, e = CELL ? ge[k] : p.ge.m;
            const auto dx_above = above(dx, top.row[0], c);
            const V y_above = up<VI>(y.m, load<V>(top.row[1].m + c - L + 1), lanes);
            const auto h_above = above(h, top.row[2], c);
            const VI most = largest(largest(h.e, h_above.e), diagonal.e), low = most - Lanes<R>::BIAS;
            x = {(o * d.m + e * x.m) * power<R>(d.e, low), most};
            y = {(o * dx_above.m + e * y_above) * power<R>(dx_above.e, low), most};
            d = {s[k] * (diagonal.m * power<R>(diagonal.e, low)), most};
            dx = {d.m + x.m, most};
            h_before = h;
            h = normal<R>((unit<R>(low) + y.m) + dx.m, low);
            diagonal = h_above;
            last[0][k] = dx, last[1][k] = y, last[2][k] = h;
            if constexpr (std::is_void<S>::value) {
                total = sum(total, d);
            } else {
                slot->s.m = s[k], slot->d = d;
                if constexpr (S::GAPS)
                    slot->x.m = x.m, slot->dx_above = dx_above, slot->y_above.m = y_above;
                slot++;
            }
        }
        for (int r = 0; r < 3; r++)
            for (int k = 0; k < L; k++) top.row[r].take(t + k - L + 1, last[r][k], L - 1);
    }
    state = {d, x, y, dx, h, h_before};
}

template <class R, bool CELL, class S>
void retreat_shared(const Pair<R>& p, int64_t i, int64_t from, int64_t to, Backward<Number<R>>& state, Rows<Number<R>>& below,
                    const S* slot, double* d_gaps) {
    constexpr int L = Lanes<R>::L, ROOM = 40;  // shares are kept times 2^ROOM: large times tiny stays in range
    constexpr bool GAPS = S::GAPS;
    using V = typename Lanes<R>::V;
    using VI = typename Lanes<R>::VI;
    std::make_integer_sequence<int, L> lanes;
    auto [open_x, extend_x, open_y, extend_y, match, match_after] = state;
    auto diagonal = under(match_after, below.row[2], to - L + 1);
    const VI z = p.z_low - VI{};
    const R unroom = std::ldexp(R(1), -ROOM);
    V opened{}, extended{};
    for (int64_t t = to - L; t >= from; t -= L) {
        V tile[L], tile_open[CELL && GAPS ? L : 1], tile_extend[CELL && GAPS ? L : 1];
        V go[CELL ? L : 1], ge[CELL ? L : 1];
        if constexpr (CELL) read_plain_gaps<R>(p, i, t, go, ge);
#pragma GCC unroll 1
        for (int k = L - 1; k >= 0; k--) {
            const int64_t c = t + k - L + 1;
            const S* at = slot + (t + k - from);
            const V o = CELL ? go[k] : p.go.m, e = CELL ? ge[k] : p.ge.m;
            const auto y_open = under(open_y, below.row[0], c);
            const V y_extend = down<VI>(extend_y.m, load<V>(below.row[1].m + c), lanes);
            const auto match_below = under(match, below.row[2], c);
            const VI most = largest(largest(match.e, match_below.e), diagonal.e), low = most - Lanes<R>::BIAS;
            const V to_x = power<R>(open_x.e, low), to_y = power<R>(y_open.e, low);
            const V bh = diagonal.m * power<R>(diagonal.e, low);
            const V down_y = y_open.m * to_y;
            const auto bd = normal<R>((unit<R>(low) + bh) + (open_x.m * to_x + down_y), low);
            const V bx = extend_x.m * to_x + (bh + down_y);
            const V by = bh + y_extend * to_y;
            open_x = {o * bx, most}, extend_x = {e * bx, most}, open_y = {o * by, most}, extend_y = {e * by, most};
            diagonal = match_below;
            match_after = match;
            match = {at->s.m * bd.m, bd.e};
            below.row[0].take(t + k, open_y, 0);
            below.row[1].take(t + k, extend_y, 0);
            below.row[2].take(t + k, match, 0);
            tile[k] = share(at->d, bd, z, R(0)) * p.grad_over_z;
            if constexpr (GAPS) {
                const V of_x = power<R>(most + at[-1].d.e, z - ROOM), of_y = power<R>(most + at->dx_above.e, z - ROOM);
                const V by_open = open_x.m * at[-1].d.m * of_x + open_y.m * at->dx_above.m * of_y;
                const V by_extend = extend_x.m * at[-1].x.m * of_x + extend_y.m * at->y_above.m * of_y;
                if constexpr (CELL) {
                    tile_open[k] = by_open * unroom * p.grad_over_z;
                    tile_extend[k] = by_extend * unroom * p.grad_over_z;
                } else {
                    opened += by_open;
                    extended += by_extend;
                }
            }
        }
        write_tile<R>(p.d_scores, p.d_type, p.width, p.n, p.m, i, t, tile);
        if constexpr (CELL && GAPS) {
            d_gaps[0] -= reduce_tile<R>(p.open, p.n, p.m, i, t, tile_open);
            d_gaps[1] -= reduce_tile<R>(p.extend, p.n, p.m, i, t, tile_extend);
        }
    }
    state = {open_x, extend_x, open_y, extend_y, match, match_after};
    if constexpr (GAPS && !CELL)
        for (int l = 0; l < L; l++) {
            d_gaps[0] -= double(opened[l]) * unroom * double(p.grad_over_z);
            d_gaps[1] -= double(extended[l]) * unroom * double(p.grad_over_z);
        }
}

}  // namespace
