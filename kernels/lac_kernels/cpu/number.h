// Numbers of extended range, their derivatives, and the exponential.

#pragma once

#include "vector.h"

namespace {

// m 2^e in each lane, m a few units at most; zero is m = 1, e = NEVER. PARTS vectors make a number.
template <class R>
struct Number {
    using Real = R;
    using T = Lanes<R>;
    static constexpr bool DUAL = false;
    static constexpr int PARTS = 2;
    typename T::V m;
    typename T::VI e;
};

// A number and its derivative t 2^e along a direction: second order runs the same two sweeps on these.
template <class R>
struct Dual {
    using Real = R;
    using T = Lanes<R>;
    static constexpr bool DUAL = true;
    static constexpr int PARTS = 3;
    typename T::V m;
    typename T::VI e;
    typename T::V t;
};

template <class N>
INLINE N constant(typename N::Real m, typename N::T::I e) {
    N x{};
    x.m += m;
    x.e += e;
    return x;
}

template <class R>
INLINE Number<R> operator*(Number<R> a, Number<R> b) {
    return {a.m * b.m, a.e + b.e};
}

template <class R>
INLINE Dual<R> operator*(Dual<R> a, Dual<R> b) {
    return {a.m * b.m, a.e + b.e, a.t * b.m + a.m * b.t};
}

// exp of something whose derivative is v.
template <class N, class R = typename N::Real>
INLINE N along(Number<R> x, typename Lanes<R>::V v) {
    if constexpr (N::DUAL) return {x.m, x.e, x.m * v};
    else return x;
}

// 2^(e - low - BIAS), 0 where that underflows.
template <class R>
INLINE typename Lanes<R>::V power(typename Lanes<R>::VI e, typename Lanes<R>::VI low) {
    using VI = typename Lanes<R>::VI;
    return (typename Lanes<R>::V)(largest(e - low, VI{}) << Lanes<R>::BITS);
}

// 1 in units of 2^(low + BIAS).
template <class R>
INLINE typename Lanes<R>::V unit(typename Lanes<R>::VI low) {
    return power<R>(typename Lanes<R>::VI{}, low);
}

template <class R>
struct Mantissas {
    typename Lanes<R>::V m, t;
};

template <class R>
INLINE Mantissas<R> operator+(Mantissas<R> a, Mantissas<R> b) {
    return {a.m + b.m, a.t + b.t};
}

template <class R>
INLINE Mantissas<R> operator+(typename Lanes<R>::V one, Mantissas<R> a) {
    return {one + a.m, a.t};
}

// In units of 2^(low + BIAS).
template <class R>
INLINE typename Lanes<R>::V at(Number<R> x, typename Lanes<R>::VI low) {
    return x.m * power<R>(x.e, low);
}

template <class R>
INLINE Mantissas<R> at(Dual<R> x, typename Lanes<R>::VI low) {
    const auto p = power<R>(x.e, low);
    return {x.m * p, x.t * p};
}

// m 2^(low + BIAS) with m >= 1/2 brought to 1 <= m < 2.
template <class R>
INLINE Number<R> normal(typename Lanes<R>::V m, typename Lanes<R>::VI low) {
    using T = Lanes<R>;
    using VI = typename T::VI;
    constexpr typename T::I field = (typename T::I(1) << T::BITS) - 1;
    constexpr typename T::I one = typename T::I(T::BIAS) << T::BITS;
    VI bits = (VI)m;
    VI e = low + (VI)((typename T::VU)bits >> T::BITS);
    return {(typename T::V)((bits & field) | one), largest(e, T::NEVER - VI{})};
}

template <class R>
INLINE Dual<R> normal(Mantissas<R> x, typename Lanes<R>::VI low) {
    using T = Lanes<R>;
    using VI = typename T::VI;
    constexpr typename T::I field = (typename T::I(1) << T::BITS) - 1;
    constexpr typename T::I two = typename T::I(2 * T::BIAS) << T::BITS;
    const auto m = normal<R>(x.m, low);
    return {m.m, m.e, x.t * (typename T::V)(two - ((VI)x.m & ~field))};  // over the power of two in x.m
}

template <class R>
INLINE Number<R> with_exponent(typename Lanes<R>::V m, typename Lanes<R>::VI e) {
    return {m, e};
}

template <class R>
INLINE Dual<R> with_exponent(Mantissas<R> x, typename Lanes<R>::VI e) {
    return {x.m, e, x.t};
}

template <class N, class R = typename N::Real>
INLINE N sum(N a, N b) {
    const auto most = largest(a.e, b.e), low = most - Lanes<R>::BIAS;
    return with_exponent<R>(at(a, low) + at(b, low), most);
}

template <class N, class R = typename N::Real>
INLINE N normal_sum(N a, N b) {
    const auto low = largest(a.e, b.e) - Lanes<R>::BIAS;
    return normal<R>(at(a, low) + at(b, low), low);
}

template <class N, class R = typename N::Real>
INLINE N normal_sum(N a, N b, N c) {
    const auto low = largest(largest(a.e, b.e), c.e) - Lanes<R>::BIAS;
    return normal<R>(at(a, low) + at(b, low) + at(c, low), low);
}

template <class N, class R = typename N::Real>
INLINE N one_plus(N a, N b) {
    using VI = typename Lanes<R>::VI;
    const auto low = largest(largest(a.e, b.e), VI{}) - Lanes<R>::BIAS;
    return normal<R>(unit<R>(low) + at(a, low) + at(b, low), low);
}

template <class N, class R = typename N::Real>
INLINE N one_plus(N a, N b, N c) {
    using VI = typename Lanes<R>::VI;
    const auto low = largest(largest(a.e, b.e), largest(c.e, VI{})) - Lanes<R>::BIAS;
    return normal<R>(unit<R>(low) + at(a, low) + at(b, low) + at(c, low), low);
}

// a b / Z as a plain number; `low` is Z's exponent - BIAS.
template <class R>
INLINE typename Lanes<R>::V share(Number<R> a, Number<R> b, typename Lanes<R>::VI low, R) {
    return a.m * b.m * power<R>(a.e + b.e, low);
}

// Its derivative; `z` is Z's own over Z.
template <class R>
INLINE typename Lanes<R>::V share(Dual<R> a, Dual<R> b, typename Lanes<R>::VI low, R z) {
    return (a.t * b.m + a.m * (b.t - z * b.m)) * power<R>(a.e + b.e, low);
}

constexpr long double LN_2 = 0.693147180559945309417232121458176568L;
constexpr long double LOG2_E = 1.442695040888963407359924681001892137L;

constexpr double FORBIDDEN = -1e30;  // a score of so little forbids a cell, as -inf does

// log2(e) / T in two parts; the product with S is exact enough that |S| / T = 1e4 costs no accuracy.
template <class R>
struct Rate {
    using I = typename Lanes<R>::I;
    R whole, high, low, least;  // least: the score that has no weight any more
    explicit Rate(long double c) {
        whole = R(c);
        I bits;
        std::memcpy(&bits, &whole, sizeof bits);
        bits &= Lanes<R>::HIGH;
        std::memcpy(&high, &bits, sizeof bits);
        low = R(c - (long double)high);
        least = largest(-R(Lanes<R>::MOST) / whole, R(FORBIDDEN));
    }
};

template <class R>
struct Taylor {
    R c[Lanes<R>::TERMS + 1];
    constexpr Taylor() : c() {
        long double x = 1;
        for (int k = 0; k <= Lanes<R>::TERMS; k++) {
            c[k] = R(x);
            x *= LN_2 / (k + 1);
        }
    }
};

// Splits x, |x| < 2^BITS / 4, into the integer next to it, which it returns, and the rest.
template <class R>
INLINE typename Lanes<R>::VI take_whole(typename Lanes<R>::V& x) {
    using VI = typename Lanes<R>::VI;
    const auto rounded = x + Lanes<R>::ROUND;
    x -= rounded - Lanes<R>::ROUND;
    return (VI)rounded - (VI)(Lanes<R>::ROUND - typename Lanes<R>::V{});
}

// 2^(rate s). `good` keeps its bits only where s is neither NaN nor too large. SMALL: |rate s| < 2^BITS / 4 is known.
template <class R, bool SMALL = sizeof(R) == 8>
INLINE Number<R> exponential(typename Lanes<R>::V s, const Rate<R>& rate, typename Lanes<R>::VI& good) {
    using T = Lanes<R>;
    using V = typename T::V;
    using VI = typename T::VI;
    static constexpr Taylor<R> taylor;
    VI none = (VI)(s <= rate.least);
    s = none ? V{} : s;
    V p = s * rate.whole, whole = p;
    good &= (VI)(p < R(T::MOST));
    VI e;
    if constexpr (SMALL) {
        e = take_whole<R>(p);
        whole -= p;
    } else {  // p may lie beyond `take_whole`, and be rounded to more than an integer
        e = convert<VI>(p);
        whole = convert<V>(e);
    }
    V high = (V)((VI)s & T::HIGH);
    V f = ((high * rate.high - whole) + high * rate.low) + (s - high) * rate.whole;
    if constexpr (!SMALL) e += take_whole<R>(f);
    V m = taylor.c[T::TERMS] - V{};
#pragma GCC unroll 16
    for (int k = T::TERMS - 1; k >= 0; k--) m = m * f + taylor.c[k];
    return {m, none ? T::NEVER - VI{} : e};
}

// 2^(rate s) as a plain number, for |rate s| small; 0 for -inf.
template <class R>
INLINE typename Lanes<R>::V plain_exponential(typename Lanes<R>::V s, const Rate<R>& rate) {
    typename Lanes<R>::VI unused{};
    const auto x = exponential<R, true>(s, rate, unused);
    return x.m * power<R>(x.e, typename Lanes<R>::VI{} - Lanes<R>::BIAS);
}

}  // namespace
