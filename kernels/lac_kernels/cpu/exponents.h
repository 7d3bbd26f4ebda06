// The equations of one step (cpu.cpp), for two places where the exponents of a cell may live: with each number, or one
// for d, x and y together and one for h. The sweeps take either of these two as their policy.

#pragma once

#include <type_traits>

#include "pair.h"
#include "rows.h"

namespace {

// Lanes after a step of the forward; dx = d + x, h_before is one step older.
template <class N>
struct Forward {
    N d, x, y, dx, h, h_before;
};

// What a step of the forward takes from the rows above: lane l has that of lane l-1. `diagonal` is h, a step older.
template <class N>
struct Above {
    N dx, y, h, diagonal;
};

// Lanes after a step of the backward: o bx, e bx, o by, e by and s bd; match_after is one step older.
template <class N>
struct Backward {
    N open_x, extend_x, open_y, extend_y, match, match_after;
};

// What a step of the backward takes from the rows below. `diagonal` is s bd, a step older.
template <class N>
struct Under {
    N open_y, extend_y, match, diagonal;
};

// What the backward needs of each step of the forward; of the step before, too: d and x.
template <class P>
struct Slot {
    using Exponents = P;
    static constexpr bool GAPS = false;
    typename P::Weight s;
    typename P::Value d;
};

template <class P>
struct GapSlot {
    using Exponents = P;
    static constexpr bool GAPS = true;
    typename P::Weight s;
    typename P::Value d;
    typename P::Part x;
    typename P::Value dx_above;
    typename P::Part y_above;
};

template <class P, bool GAPS>
using SlotOf = std::conditional_t<GAPS, GapSlot<P>, Slot<P>>;

// What the cells of a pair add to its gap_open and gap_extend, where it has one number for all of them.
enum { OPEN, EXTEND };
using GapSums = double[2];

// A step's part of the gradients of the gaps, without the incoming gradient.
template <class R>
struct GapShares {
    typename Lanes<R>::V open, extend;
};

// Each number has its own exponent: right for all scores, gaps and temperatures within the limits of the exponents.
template <class N>
struct OwnExponents {
    using Value = N;
    using Weight = N;  // of s, o and e
    using Part = N;    // of x and y above that a slot keeps
    using R = typename N::Real;
    using V = typename Lanes<R>::V;
    using VI = typename Lanes<R>::VI;
    static constexpr R SHARE_UNIT = 1;  // of GapShares

    static N zero() { return constant<N>(1, N::T::NEVER); }

    INLINE Weight weight(V value, V direction, const Rate<R>& rate, VI& sound) {
        return along<N>(exponential<R>(value, rate, sound), direction);
    }

    // The weight of a penalty that is one for the whole pair.
    INLINE Weight gap_weight(const Number<R>& weight, const Gap& gap) {
        if constexpr (N::DUAL) return along<N>(weight, -number_at<R>(gap.direction.data) - V{});
        else return weight;
    }

    INLINE Part part(const N& x) { return x; }

    INLINE void forward(Forward<N>& a, const Above<N>& above, Weight s, Weight o, Weight e) {
        a.x = normal_sum(o * a.d, e * a.x);
        a.y = normal_sum(o * above.dx, e * above.y);
        a.d = s * above.diagonal;
        a.d.e = smallest(a.d.e, 2 * Lanes<R>::MOST - VI{});  // too large anyway, and must not wrap
        a.dx = sum(a.d, a.x);
        a.h_before = a.h;
        a.h = one_plus(a.dx, a.y);
    }

    // Returns bd.
    INLINE N backward(Backward<N>& a, const Under<N>& under, Weight s, Weight o, Weight e) {
        const N& bh = under.diagonal;
        const auto bd = one_plus(bh, a.open_x, under.open_y);
        const auto bx = normal_sum(bh, a.extend_x, under.open_y);
        const auto by = normal_sum(bh, under.extend_y);
        a.open_x = o * bx, a.extend_x = e * bx, a.open_y = o * by, a.extend_y = e * by;
        a.match_after = a.match;
        a.match = s * bd;
        return bd;
    }

    template <class S>
    INLINE GapShares<R> gap_shares(const Backward<N>& a, const S* at, VI z_low, R z) {
        return {share(a.open_x, at[-1].d, z_low, z) + share(a.open_y, at->dx_above, z_low, z),
                share(a.extend_x, at[-1].x, z_low, z) + share(a.extend_y, at->y_above, z_low, z)};
    }
};

// d, x and y of a cell share one exponent (bx, by and their four products, backwards), and h has one (bd and s bd). It
// saves a fifth of the time, but a value 2^126 below the largest of its cell is lost, so this needs `fits_shared`.
template <class Real>
struct SharedExponents {
    using R = Real;
    using V = typename Lanes<R>::V;
    using VI = typename Lanes<R>::VI;
    using Value = Number<R>;
    using Weight = V;
    using Part = V;
    static constexpr int SHARE_BITS = 40;  // large times tiny stays in range
    static constexpr R SHARE_UNIT = R(1) / R(int64_t(1) << SHARE_BITS);

    static Value zero() { return constant<Value>(0, 0); }

    INLINE Weight weight(V value, V, const Rate<R>& rate, VI&) {
        return plain_exponential<R>(value, rate);
    }

    INLINE Weight gap_weight(const Value& weight, const Gap&) { return weight.m; }

    INLINE Part part(const Value& x) { return x.m; }

    INLINE void forward(Forward<Value>& a, const Above<Value>& above, Weight s, Weight o, Weight e) {
        const VI most = largest(largest(a.h.e, above.h.e), above.diagonal.e), low = most - Lanes<R>::BIAS;
        a.x = {(o * a.d.m + e * a.x.m) * power<R>(a.d.e, low), most};
        a.y = {(o * above.dx.m + e * above.y.m) * power<R>(above.dx.e, low), most};
        a.d = {s * (above.diagonal.m * power<R>(above.diagonal.e, low)), most};
        a.dx = {a.d.m + a.x.m, most};
        a.h_before = a.h;
        a.h = normal<R>((unit<R>(low) + a.y.m) + a.dx.m, low);
    }

    INLINE Value backward(Backward<Value>& a, const Under<Value>& under, Weight s, Weight o, Weight e) {
        const VI most = largest(largest(a.match.e, under.match.e), under.diagonal.e), low = most - Lanes<R>::BIAS;
        const V to_x = power<R>(a.open_x.e, low), to_y = power<R>(under.open_y.e, low);
        const V bh = under.diagonal.m * power<R>(under.diagonal.e, low);
        const V down_y = under.open_y.m * to_y;
        const auto bd = normal<R>((unit<R>(low) + bh) + (a.open_x.m * to_x + down_y), low);
        const V bx = a.extend_x.m * to_x + (bh + down_y);
        const V by = bh + under.extend_y.m * to_y;
        a.open_x = {o * bx, most}, a.extend_x = {e * bx, most}, a.open_y = {o * by, most}, a.extend_y = {e * by, most};
        a.match_after = a.match;
        a.match = {s * bd.m, bd.e};
        return bd;
    }

    template <class S>
    INLINE GapShares<R> gap_shares(const Backward<Value>& a, const S* at, VI z_low, R) {
        const V of_x = power<R>(a.open_x.e + at[-1].d.e, z_low - SHARE_BITS);
        const V of_y = power<R>(a.open_y.e + at->dx_above.e, z_low - SHARE_BITS);
        return {a.open_x.m * at[-1].d.m * of_x + a.open_y.m * at->dx_above.m * of_y,
                a.extend_x.m * at[-1].x * of_x + a.extend_y.m * at->y_above * of_y};
    }
};

// NaN where there is NaN or an infinity.
template <class R>
R largest_magnitude(const Matrix& a, int64_t n, int64_t m) {
    using V = typename Lanes<R>::V;
    constexpr int L = Lanes<R>::L, WIDTH = 4 * L;
    V most{}, spoilt{};
    R part[WIDTH];
    const int64_t rows = a.row ? n : 1, columns = a.column ? m : 1;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j += WIDTH) {
            const R* from = part;
            if (a.column == 1 && a.type == own_type<R> && j + WIDTH <= columns) {
                from = (const R*)a.data + i * a.row + j;
            } else {
                for (auto& x : part) x = 0;
                read<R>(a, i, j, columns - j < WIDTH ? columns - j : WIDTH, part);
            }
            for (int k = 0; k < 4; k++) {
                const V x = load<V>(from + k * L);
                most = largest(most, x > V{} ? x : -x);
                spoilt += x - x;
            }
        }
    R result = 0, nan = 0;
    for (int l = 0; l < L; l++) {
        result = largest(result, most[l]);
        nan += spoilt[l];
    }
    return result + nan;
}

// Of (max |S| + 2 max gap) / T in powers of two (36 in powers of e). H of neighbouring cells differ by two gaps at most
// and d and h by one score more; with this bound, a value that is 2^126 times smaller than another of its cell can
// nowhere come to matter.
constexpr int MOST_SHARED = 52;

template <class R>
bool fits_shared(const Pair<R>& p) {
    const R score = largest_magnitude<R>(p.scores, p.n, p.m);
    for (const Gap* gap : {&p.open, &p.extend})
        if (!((score + 2 * largest_magnitude<R>(gap->value, p.n, p.m)) * p.rate.whole <= R(MOST_SHARED))) return false;
    return true;
}

template <class R>
void share_exponents(Pair<R>& p) {
    p.shared = true;
    p.open_weight.m = plain_exponential<R>(-number_at<R>(p.open.value.data) - typename Lanes<R>::V{}, p.rate);
    p.extend_weight.m = plain_exponential<R>(-number_at<R>(p.extend.value.data) - typename Lanes<R>::V{}, p.rate);
}

// Calls run with the policy that suits a pair. Derivatives have exponents of their own only.
template <class N, class Run, class R = typename N::Real>
void with_exponents(const Pair<R>& p, const Run& run) {
    if constexpr (!N::DUAL) {
        if (p.shared) return run(SharedExponents<R>{});
    }
    run(OwnExponents<N>{});
}

}  // namespace
