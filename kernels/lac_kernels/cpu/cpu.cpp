// Soft Smith-Waterman with affine gaps on SIMD lanes: score, gradient, Hessian-vector product and hard
// alignment. Compiled by cpu.py.
//
// Probability space: every quantity of the recursion (reference.py) is exp(value / T), so smax becomes a sum:
//
//     d = s h(i-1,j-1)     x = o d(i,j-1) + e x(i,j-1)     y = o (d + x)(i-1,j) + e y(i-1,j)     h = 1 + d + x + y
//
// with s, o, e = exp(S/T), exp(-open/T), exp(-extend/T) and Z = sum of d. Adjoints, backwards:
//
//     bh = (s bd)(i+1,j+1)    bd = 1 + bh + (o bx)(i,j+1) + (o by)(i+1,j)
//     bx = bh + (e bx)(i,j+1) + (o by)(i+1,j)    by = bh + (e by)(i+1,j)    posterior = d bd / Z
//
// A value is a mantissa and an integer exponent, so nothing overflows or underflows at any temperature, and no
// logarithm is taken but that of Z. Where |S| / T and the gaps are small (`fits_shared`) d, x and y of a cell share
// one exponent, which saves a fifth of the time.
//
// The Hessian-vector product is the derivative of all that along a direction: the same sweeps on dual numbers, in
// float64, with s' = s v_S / T, o' = -o v_o / T, e' = -e v_e / T and posterior' = (d' bd + d bd') / Z - posterior Z' / Z.
//
// Lane l of a strip works on row l of L rows, one column behind lane l-1: at step t it is at column t - l. ROWS rows
// make a block, COLS steps a window; the forward keeps the row above each block and the lanes' state at each window,
// the backward runs one window forward again, into `slots`, and then back.

#include <atomic>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define INLINE static inline __attribute__((always_inline))

namespace {

constexpr int64_t ROWS = 64, COLS = 192;  // cpu.py knows both

template <class R>
struct Lanes;

template <>
struct Lanes<float> {
    using I = int32_t;
    static constexpr int L = BYTES / 4, BITS = 23, BIAS = 127, TERMS = 7;
    static constexpr float ROUND = 12582912.0f;      // 1.5 * 2^23: adding it rounds to an integer
    static constexpr I MOST = 1 << 28;               // the largest exponent: of a score, and of a sum of alignments
    static constexpr I NEVER = -2 * MOST;            // exponent that stands for zero
    static constexpr I HIGH = ~((1 << 12) - 1);      // keeps the upper half of a mantissa
    typedef float V __attribute__((vector_size(BYTES)));
    typedef int32_t VI __attribute__((vector_size(BYTES)));
    typedef uint32_t VU __attribute__((vector_size(BYTES)));
};

template <>
struct Lanes<double> {
    using I = int64_t;
    static constexpr int L = BYTES / 8, BITS = 52, BIAS = 1023, TERMS = 13;
    static constexpr double ROUND = 6755399441055744.0;
    static constexpr I MOST = I(1) << 49;
    static constexpr I NEVER = -(I(1) << 60);
    static constexpr I HIGH = ~((I(1) << 27) - 1);
    typedef double V __attribute__((vector_size(BYTES)));
    typedef int64_t VI __attribute__((vector_size(BYTES)));
    typedef uint64_t VU __attribute__((vector_size(BYTES)));
};

// ---------------------------------------------------------------------------------------------------------------
// Vectors

template <class V>
INLINE V load(const void* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class V>
INLINE void store(void* p, V v) {
    std::memcpy(p, &v, sizeof v);
}

template <class R, int L>
struct FewOf {
    typedef R V __attribute__((vector_size(L * sizeof(R))));
};
template <class R, int L>
using Few = typename FewOf<R, L>::V;  // L numbers, which need not fill a register

template <class To, class From>
INLINE To convert(From x) {
    return __builtin_convertvector(x, To);
}

template <class V>
INLINE V largest(V a, V b) {
    return a > b ? a : b;
}

template <class V>
INLINE V smallest(V a, V b) {
    return a < b ? a : b;
}

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(I, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(I, a, b, ...) __builtin_shuffle(a, b, I{__VA_ARGS__})
#endif

template <class VI, class V, int... K>
INLINE V zip_low(V a, V b, std::integer_sequence<int, K...>) {
    return SHUFFLE(VI, a, b, (K % 2 * int(sizeof...(K)) + K / 2)...);
}

template <class VI, class V, int... K>
INLINE V zip_high(V a, V b, std::integer_sequence<int, K...>) {
    constexpr int n = sizeof...(K);
    return SHUFFLE(VI, a, b, (K % 2 * n + n / 2 + K / 2)...);
}

// Lane l takes lane l-1; lane 0 takes the last lane of `in`.
template <class VI, class V, int... K>
INLINE V up(V v, V in, std::integer_sequence<int, K...>) {
    constexpr int n = sizeof...(K);
    return SHUFFLE(VI, v, in, (K == 0 ? 2 * n - 1 : K - 1)...);
}

// Lane l takes lane l+1; the last lane takes lane 0 of `in`.
template <class VI, class V, int... K>
INLINE V down(V v, V in, std::integer_sequence<int, K...>) {
    return SHUFFLE(VI, v, in, (K + 1)...);
}

template <class R>
INLINE void transpose(typename Lanes<R>::V* a) {
    constexpr int L = Lanes<R>::L;
    using V = typename Lanes<R>::V;
    using VI = typename Lanes<R>::VI;
    std::make_integer_sequence<int, L> lanes;
#pragma GCC unroll 4
    for (int step = 1; step < L; step *= 2) {
        V b[L];
#pragma GCC unroll 8
        for (int k = 0; k < L / 2; k++) {
            b[2 * k] = zip_low<VI>(a[k], a[k + L / 2], lanes);
            b[2 * k + 1] = zip_high<VI>(a[k], a[k + L / 2], lanes);
        }
#pragma GCC unroll 16
        for (int k = 0; k < L; k++) a[k] = b[k];
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Extended-range numbers: m 2^e in each lane, m a few units at most; zero is m = 1, e = NEVER.

template <class R>
struct Number {
    using Real = R;
    using T = Lanes<R>;
    static constexpr bool DUAL = false;
    typename T::V m;
    typename T::VI e;
};

// A number and its derivative t 2^e along a direction: second order runs the same two sweeps on these.
template <class R>
struct Dual {
    using Real = R;
    using T = Lanes<R>;
    static constexpr bool DUAL = true;
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
            x *= 0.693147180559945309417232121458176568L / (k + 1);
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

// ---------------------------------------------------------------------------------------------------------------
// Tensors

enum Type { FLOAT32 = 0, FLOAT64 = 1, FLOAT16 = 2, BFLOAT16 = 3 };

template <class To, class From>
INLINE To cast_bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}

INLINE float from_half(uint16_t h) {
    uint32_t magnitude = uint32_t(h & 0x7fff) << 13, sign = uint32_t(h & 0x8000) << 16;
    float x = cast_bits<float>(magnitude) * 5.192296858534828e33f;  // 2^112: also right for subnormal numbers
    uint32_t bits = magnitude >= 0x0f800000u ? (magnitude | 0x7f800000u) : cast_bits<uint32_t>(x);
    return cast_bits<float>(bits | sign);
}

INLINE uint16_t to_half(float x) {
    uint32_t bits = cast_bits<uint32_t>(x), sign = (bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return uint16_t(sign | 0x7e00u);
    if (bits >= 0x477ff000u) return uint16_t(sign | 0x7c00u);
    if (bits < 0x38800000u) {  // subnormal: the addition rounds at 2^-24
        float shifted = cast_bits<float>(bits) + 0.5f;
        return uint16_t(sign | (cast_bits<uint32_t>(shifted) - 0x3f000000u));
    }
    bits += 0xfffu + ((bits >> 13) & 1u);
    return uint16_t(sign | ((bits - 0x38000000u) >> 13));
}

INLINE float from_bfloat(uint16_t h) { return cast_bits<float>(uint32_t(h) << 16); }

INLINE uint16_t to_bfloat(float x) {
    uint32_t bits = cast_bits<uint32_t>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0u;
    return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// One pair's view of a tensor (N, M); strides in elements.
struct Matrix {
    const char* data;
    int64_t row, column;
    int type;
};

template <class R>
void read(const Matrix& a, int64_t i, int64_t j, int64_t count, R* out) {
    const int64_t at = i * a.row + j * a.column, c = a.column;
    const auto copy = [&](auto data, auto convert) {
        for (int64_t k = 0; k < count; k++) out[k] = R(convert(data[at + k * c]));
    };
    const auto same = [](auto x) { return x; };
    if (a.type == FLOAT32) copy((const float*)a.data, same);
    else if (a.type == FLOAT64) copy((const double*)a.data, same);
    else if (a.type == FLOAT16) copy((const uint16_t*)a.data, from_half);
    else copy((const uint16_t*)a.data, from_bfloat);
}

template <class R>
void write(char* out, int type, int64_t at, int64_t count, const R* from) {
    const auto copy = [&](auto data, auto convert) {
        for (int64_t k = 0; k < count; k++) data[at + k] = convert(from[k]);
    };
    if (type == FLOAT32) copy((float*)out, [](R x) { return float(x); });
    else if (type == FLOAT64) copy((double*)out, [](R x) { return double(x); });
    else if (type == FLOAT16) copy((uint16_t*)out, [](R x) { return to_half(float(x)); });
    else copy((uint16_t*)out, [](R x) { return to_bfloat(float(x)); });
}

template <class R>
constexpr int own_type = std::is_same<R, double>::value ? FLOAT64 : FLOAT32;

// The steps of a tile in which lane l stands on a valid column.
struct Part {
    int64_t first, last;
    Part(int64_t m, int64_t t, int64_t l, int64_t lanes) {
        first = t < l ? l - t : 0;
        last = m - (t - l) < lanes ? m - (t - l) : lanes;
    }
};

INLINE bool whole(int64_t n, int64_t m, int64_t i, int64_t t, int64_t lanes) {
    return i + lanes <= n && t >= lanes - 1 && t + lanes <= m;
}

template <class R>
void read_part(const Matrix& a, int64_t n, int64_t m, int64_t i, int64_t t, R fill, typename Lanes<R>::V* tile) {
    constexpr int L = Lanes<R>::L;
    for (int l = 0; l < L; l++) {
        const Part part(m, t, l, L);
        tile[l] = fill - typename Lanes<R>::V{};
        if (i + l < n && part.first < part.last)
            read<R>(a, i + l, t - l + part.first, part.last - part.first, (R*)&tile[l] + part.first);
    }
}

template <class R>
void write_part(char* out, int type, int64_t width, int64_t n, int64_t m, int64_t i, int64_t t,
                const typename Lanes<R>::V* tile) {
    constexpr int L = Lanes<R>::L;
    for (int l = 0; l < L && i + l < n; l++) {
        const Part part(m, t, l, L);
        if (part.first < part.last)
            write<R>(out, type, (i + l) * width + t - l + part.first, part.last - part.first,
                     (const R*)&tile[l] + part.first);
    }
}

// Steps t .. t+L-1 of the strip of rows i .. i+L-1, one vector per step; `fill` outside the n x m valid cells.
template <class R>
INLINE void read_tile(const Matrix& a, int64_t n, int64_t m, int64_t i, int64_t t, R fill,
                      typename Lanes<R>::V* tile) {
    constexpr int L = Lanes<R>::L;
    const auto rows = [&](auto p) {
        using From = std::remove_const_t<std::remove_pointer_t<decltype(p)>>;
#pragma GCC unroll 16
        for (int l = 0; l < L; l++) {
            tile[l] = convert<typename Lanes<R>::V>(load<Few<From, L>>(p + l * (a.row - 1)));
            __builtin_prefetch(p + l * (a.row - 1) + 2 * L - 1);  // L rows at once: more than processors foresee
        }
    };
    const bool inside = whole(n, m, i, t, L) && a.column == 1;
    if (inside && a.type == own_type<R>) rows((const R*)a.data + i * a.row + t);
    else if (inside && a.type == FLOAT32) rows((const float*)a.data + i * a.row + t);
    else read_part<R>(a, n, m, i, t, fill, tile);
    transpose<R>(tile);
}

// The reverse, into rows of a contiguous (n, width) matrix of the given type. Destroys the tile.
template <class R>
INLINE void write_tile(char* out, int type, int64_t width, int64_t n, int64_t m, int64_t i, int64_t t,
                       typename Lanes<R>::V* tile) {
    constexpr int L = Lanes<R>::L;
    transpose<R>(tile);
    const auto rows = [&](auto p) {
#pragma GCC unroll 16
        for (int l = 0; l < L; l++) {
            store(p + l * (width - 1), convert<Few<std::remove_pointer_t<decltype(p)>, L>>(tile[l]));
            __builtin_prefetch(p + l * (width - 1) - L, 1);
        }
    };
    const bool inside = whole(n, m, i, t, L);
    if (inside && type == own_type<R>) rows((R*)out + i * width + t);
    else if (inside && type == FLOAT32) rows((float*)out + i * width + t);
    else write_part<R>(out, type, width, n, m, i, t, tile);
}

// Subtracts a tile of gap shares from a gap's gradient; a gap with one value gets their sum returned instead.
template <class R, class Gap>
R reduce_tile(const Gap& gap, int64_t n, int64_t m, int64_t i, int64_t t, typename Lanes<R>::V* tile) {
    constexpr int L = Lanes<R>::L;
    transpose<R>(tile);
    R all = 0;
    for (int l = 0; l < L && i + l < n; l++) {
        const Part part(m, t, l, L);
        const auto from = (const R*)&tile[l];
        R* to = (R*)gap.gradient + (i + l) * gap.row + (t - l) * gap.column;
        R total = 0;
        for (int64_t k = part.first; k < part.last; k++) total += from[k];
        if (gap.one()) all += total;
        else if (gap.column == 0) *to -= total;
        else
            for (int64_t k = part.first; k < part.last; k++) to[k * gap.column] -= from[k];
    }
    return all;
}

// ---------------------------------------------------------------------------------------------------------------
// One pair

// Numbers along the columns, between one strip and the next: mantissas, exponents and derivatives.
template <class N>
struct Row {
    using R = typename N::Real;
    using I = typename N::T::I;
    R* m;
    I* e;
    R* t;
    N from(int64_t c) const {
        N x;
        x.m = load<typename N::T::V>(m + c);
        x.e = load<typename N::T::VI>(e + c);
        if constexpr (N::DUAL) x.t = load<typename N::T::V>(t + c);
        return x;
    }
    void put(int64_t c, const N& x) {
        store(m + c, x.m);
        store(e + c, x.e);
        if constexpr (N::DUAL) store(t + c, x.t);
    }
    void take(int64_t c, const N& x, int lane) {
        m[c] = ((const R*)&x.m)[lane];
        e[c] = ((const I*)&x.e)[lane];
        if constexpr (N::DUAL) t[c] = ((const R*)&x.t)[lane];
    }
    // A part of the row, from and to memory that holds rows of `width`.
    void save(int64_t c, int64_t count, R* to, int64_t width) const {
        std::memcpy(to, m + c, size_t(count) * sizeof(R));
        std::memcpy(to + width, e + c, size_t(count) * sizeof(R));
        if constexpr (N::DUAL) std::memcpy(to + 2 * width, t + c, size_t(count) * sizeof(R));
    }
    void restore(int64_t c, int64_t count, const R* kept, int64_t width) {
        std::memcpy(m + c, kept, size_t(count) * sizeof(R));
        std::memcpy(e + c, kept + width, size_t(count) * sizeof(R));
        if constexpr (N::DUAL) std::memcpy(t + c, kept + 2 * width, size_t(count) * sizeof(R));
    }
};

// Lane l takes lane l-1 and lane 0 what the strip above has at column c; downwards the other way round.
template <class N>
INLINE N above(const N& v, const Row<N>& row, int64_t c) {
    using VI = typename N::T::VI;
    std::make_integer_sequence<int, N::T::L> lanes;
    const auto in = row.from(c - N::T::L + 1);
    N x;
    x.m = up<VI>(v.m, in.m, lanes);
    x.e = up<VI>(v.e, in.e, lanes);
    if constexpr (N::DUAL) x.t = up<VI>(v.t, in.t, lanes);
    return x;
}

template <class N>
INLINE N under(const N& v, const Row<N>& row, int64_t c) {
    using VI = typename N::T::VI;
    std::make_integer_sequence<int, N::T::L> lanes;
    const auto in = row.from(c);
    N x;
    x.m = down<VI>(v.m, in.m, lanes);
    x.e = down<VI>(v.e, in.e, lanes);
    if constexpr (N::DUAL) x.t = down<VI>(v.t, in.t, lanes);
    return x;
}

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

// Three rows of numbers over columns -2 L .. m + 4 L.
// Forward, the last row of the strip above: d + x, y, h. Backward, the first row of the strip below: o by, e by, s bd.
template <class N>
struct Rows {
    using R = typename N::Real;
    static constexpr int PARTS = N::DUAL ? 3 : 2;
    Memory memory;
    Row<N> row[3];
    void reserve(int64_t m) {
        constexpr int L = N::T::L;
        const int64_t length = (m + 7 * L) / L * L;
        memory.reserve(size_t(3 * PARTS * length) * sizeof(R));
        R* p = (R*)memory.p + 2 * L;
        for (auto& r : row) {
            r = {p, (typename N::T::I*)(p + length), N::DUAL ? p + 2 * length : nullptr};
            p += PARTS * length;
        }
    }
    void fill(int64_t first, int64_t last, N value0, N value1, N value2) {
        for (int64_t c = first; c < last; c += N::T::L) {
            row[0].put(c, value0);
            row[1].put(c, value1);
            row[2].put(c, value2);
        }
    }
};

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

struct Total {  // m 2^e and its derivative t 2^e
    double m = 0, t = 0;
    int64_t e = INT64_MIN / 4;
    void add(double x, double derivative, int64_t at) {
        if (x == 0) return;
        if (at > e) {
            m = at - e > 2000 ? 0 : std::ldexp(m, int(e - at));
            t = at - e > 2000 ? 0 : std::ldexp(t, int(e - at));
            e = at;
        }
        if (e - at < 2000) {
            m += std::ldexp(x, int(at - e));
            t += std::ldexp(derivative, int(at - e));
        }
    }
};

enum Kind : int64_t { SOUND, EMPTY, NOT_FINITE };

struct Header {  // of what the forward keeps of a pair
    Total z;
    int64_t kind;
    int64_t shared;
};

struct Gap {
    Matrix value, direction;
    char* gradient;  // strides in elements, 0 where the gap is broadcast
    int64_t row, column;
    bool one() const { return row == 0 && column == 0; }
};

template <class R>
struct Pair {
    static constexpr int L = Lanes<R>::L, STRIPS = ROWS / L;
    Matrix scores, direction;
    Gap open, extend;
    int64_t n, m, width;
    Rate<R> rate;
    Number<R> go, ge;  // where the whole pair has one penalty
    char* saved;
    int64_t edges, windows;  // room in `saved`: rows above blocks, windows of each strip
    bool save;
    char* d_scores;
    int d_type;
    bool shared = false;  // d, x and y of a cell share one exponent
    R grad_over_z = 0, z_derivative = 0;  // the latter over Z
    typename Lanes<R>::I z_low = 0;

    int64_t steps() const { return (m + 2 * L - 2) / L * L; }
    int64_t blocks() const { return (n + ROWS - 1) / ROWS; }
    int64_t strips(int64_t block) const {
        const int64_t rows = n - block * ROWS;
        return ((rows < ROWS ? rows : ROWS) + L - 1) / L;
    }
    int64_t windows_of(int64_t block) const { return (L * (strips(block) - 1) + steps() + COLS - 1) / COLS; }
    Header* header() const { return (Header*)saved; }
    // The row above block >= 1: d + x and y, each with `parts` runs of `width`.
    R* edge(int64_t block, int64_t parts) const {
        return (R*)(saved + sizeof(Header)) + (block - 1) * width * 2 * parts;
    }
    // The lanes of a strip where window >= 1 starts.
    R* lanes(int64_t block, int64_t k, int64_t window, int64_t parts) const {
        return (R*)(saved + sizeof(Header)) + edges * width * 2 * parts +
               ((block * STRIPS + k) * windows + window - 1) * 4 * parts * L;
    }
};

template <class N>
N zero(const Pair<typename N::Real>& p) {
    return p.shared ? constant<N>(0, 0) : constant<N>(1, N::T::NEVER);
}

template <class N>
Forward<N> start_forward(const Pair<typename N::Real>& p) {
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

struct Partial {  // what one block adds to its pair
    Total z;
    bool sound = true;
    double d_gaps[2] = {0, 0};
};

template <class N>
void start_rows(const Pair<typename N::Real>& p, Rows<N>& top, int64_t first, int64_t last) {
    top.fill(first, last, zero<N>(p), zero<N>(p), constant<N>(1, 0));
}

// Steps of strip k that fall into a window: from and to; start is where the window starts for the strip.
template <class R>
struct Span {
    int64_t start, from, to;
    Span(const Pair<R>& p, int64_t window, int64_t k) {
        start = window * COLS - Lanes<R>::L * k;
        from = start > 0 ? start : 0;
        to = start + COLS < p.steps() ? start + COLS : p.steps();
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
            if (span.start <= 0) state[k] = start_forward<N>(p);
            if (p.save && span.resumes(p)) keep(state[k], p.lanes(block, k, w, PARTS));
            if (span.from >= span.to) continue;
            const int64_t at = span.from, count = (span.to < p.m ? span.to : p.m) - at;
            if (p.save && block > 0 && k == 0 && count > 0) {
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
    const int64_t room = (COLS < p.steps() ? COLS : p.steps()) + 1;
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
        start_rows(p, top, lowest.from - L, first.to + L);
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
            Forward<N> state = start_forward<N>(p);
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

// ---------------------------------------------------------------------------------------------------------------
// A batch

// Everything in elements but addresses. cpu.py fills it in this order.
struct Problem {
    int64_t batch, n, m, type, threads, save, gaps, d_type;
    int64_t scores, scores_batch, scores_row, scores_column;
    int64_t open, open_batch, open_row, open_column;
    int64_t extend, extend_batch, extend_row, extend_column;
    int64_t temperature, lengths1, lengths2;
    int64_t score, saved, saved_batch, saved_edges, saved_windows;
    int64_t grad, grad_stride, d_scores;
    int64_t d_open, d_open_batch, d_open_row, d_open_column, d_open_size;
    int64_t d_extend, d_extend_batch, d_extend_row, d_extend_column, d_extend_size;
    int64_t path, count;
    int64_t v_scores, v_scores_batch, v_scores_row, v_scores_column, v_type;
    int64_t v_open, v_open_batch, v_open_row, v_open_column;
    int64_t v_extend, v_extend_batch, v_extend_row, v_extend_column;
};

static_assert(sizeof(Problem) == 56 * 8, "as cpu.py packs it");

int64_t size_of(int64_t type) { return type == FLOAT64 ? 8 : type == FLOAT32 ? 4 : 2; }

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

template <class R>
int64_t length(int64_t lengths, int64_t b, int64_t full) {
    return lengths ? ((const int32_t*)lengths)[b] : full;
}

template <class R>
Pair<R> pair_of(const Problem& q, int64_t b) {
    const int64_t r = sizeof(R);
    const long double c = 1.442695040888963407359924681001892137L / (q.temperature ? *(const R*)q.temperature : 1);
    const int own = own_type<R>;
    Gap open{{(const char*)q.open + b * q.open_batch * r, q.open_row, q.open_column, own},
             {(const char*)q.v_open + b * q.v_open_batch * r, q.v_open_row, q.v_open_column, own},
             q.d_open ? (char*)q.d_open + b * q.d_open_batch * r : nullptr, q.d_open_row, q.d_open_column};
    Gap extend{{(const char*)q.extend + b * q.extend_batch * r, q.extend_row, q.extend_column, own},
               {(const char*)q.v_extend + b * q.v_extend_batch * r, q.v_extend_row, q.v_extend_column, own},
               q.d_extend ? (char*)q.d_extend + b * q.d_extend_batch * r : nullptr, q.d_extend_row, q.d_extend_column};
    const char* scores = (const char*)q.scores + b * q.scores_batch * size_of(q.type);
    const char* direction = (const char*)q.v_scores + b * q.v_scores_batch * size_of(q.v_type);
    Pair<R> p{{scores, q.scores_row, q.scores_column, int(q.type)},
              {direction, q.v_scores_row, q.v_scores_column, int(q.v_type)},
              open, extend,
              length<R>(q.lengths1, b, q.n), length<R>(q.lengths2, b, q.m), q.m,
              Rate<R>(c), {}, {},
              (char*)q.saved + b * q.saved_batch, q.saved_edges, q.saved_windows, q.save != 0,
              (char*)q.d_scores + b * q.n * q.m * size_of(q.d_type), int(q.d_type)};
    typename Lanes<R>::VI sound{};
    using V = typename Lanes<R>::V;
    p.go = exponential<R>(-*(const R*)open.value.data - V{}, p.rate, sound);
    p.ge = exponential<R>(-*(const R*)extend.value.data - V{}, p.rate, sound);
    return p;
}

bool by_cell(const Problem& q) {
    return q.open_row || q.open_column || q.extend_row || q.extend_column || q.v_open_row || q.v_open_column ||
           q.v_extend_row || q.v_extend_column;
}

// What a pair's score is where exponents do not reach: NaN beside NaN, else its largest score if all are too low or one
// is infinite, else NaN: a limit of the engine, and no plausible number.
template <class R>
double beyond(const Pair<R>& p, bool too_low) {
    R x, most = -std::numeric_limits<R>::infinity();
    bool nan = std::isnan(p.rate.whole);
    for (const Matrix* a : {&p.scores, &p.open.value, &p.extend.value})
        for (int64_t i = 0; i < p.n && !nan; i++)
            for (int64_t j = 0; j < p.m && !nan; j++) {
                read<R>(*a, i, j, 1, &x);
                nan = std::isnan(x);
                if (a == &p.scores && x > most) most = x;
            }
    return !nan && (too_low || std::isinf(most)) ? most : std::numeric_limits<double>::quiet_NaN();
}

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

// H of neighbouring cells differ by two gaps at most, d and h by one score more; with this bound, a value that is
// 2^126 times smaller than another of its cell can nowhere come to matter.
template <class R>
bool fits_shared(const Pair<R>& p) {
    const R score = largest_magnitude<R>(p.scores, p.n, p.m);
    for (const Gap* gap : {&p.open, &p.extend})
        if (!((score + 2 * largest_magnitude<R>(gap->value, p.n, p.m)) * p.rate.whole <= R(52))) return false;
    return true;
}

template <class R>
void share_exponents(Pair<R>& p) {
    p.shared = true;
    p.go.m = plain_exponential<R>(-*(const R*)p.open.value.data - typename Lanes<R>::V{}, p.rate);
    p.ge.m = plain_exponential<R>(-*(const R*)p.extend.value.data - typename Lanes<R>::V{}, p.rate);
}

template <class N, class R = typename N::Real>
void finish_forward(const Problem& q, const Pair<R>& p, int64_t b, const std::vector<Partial>& blocks) {
    Total z;
    bool sound = p.rate.whole >= 0;
    for (const auto& part : blocks) {
        z.add(part.z.m, part.z.t, part.z.e);
        sound = sound && part.sound;
    }
    if (!by_cell(q) && p.n > 0 && p.m > 0)
        for (const Gap* gap : {&p.open, &p.extend}) {
            const R x = *(const R*)gap->value.data;
            sound = sound && -x * p.rate.whole < R(Lanes<R>::MOST);
        }
    double score;
    Kind kind = SOUND;
    const bool too_low = sound && (z.m == 0 || z.e < -Lanes<R>::MOST);
    if (too_low || !sound) {
        score = beyond(p, too_low);
        kind = score <= FORBIDDEN ? EMPTY : NOT_FINITE;
        if (kind == EMPTY) score = 0;
        else if (N::DUAL) score = std::numeric_limits<double>::quiet_NaN();
    } else if (N::DUAL) {
        score = z.t / z.m;
    } else {
        int e;
        z.m = 2 * std::frexp(z.m, &e);
        z.e += e - 1;
        score = double(*(const R*)q.temperature) * (std::log(z.m) + double(z.e) * 0.693147180559945309417);
    }
    ((R*)q.score)[b] = R(score);
    if (p.save) *p.header() = {z, kind, p.shared};
}

// What one thread needs besides the tensors.
template <class N>
struct Workspace {
    Rows<N> top, below;
    Memory slots;
    std::vector<typename N::Real> d_open, d_extend;  // where the batch shares a gap's gradient
};

template <class N, bool CELL, class R = typename N::Real>
void forward_batch(const Problem& q) {
    const int64_t L = Lanes<R>::L;
    const int64_t most = (q.n + ROWS - 1) / ROWS;
    const bool inside = q.batch < q.threads && most > 1;
    if (!inside) {
        parallel(q.threads < q.batch ? q.threads : q.batch, [&](int64_t k, int64_t count) {
            Rows<N> top;
            top.reserve(q.m);
            for (int64_t b = k; b < q.batch; b += count) {
                auto p = pair_of<R>(q, b);
                if (!N::DUAL && fits_shared(p)) share_exponents(p);
                std::vector<Partial> parts(size_t(p.m > 0 ? p.blocks() : 0));
                start_rows(p, top, -L, p.m + 2 * L);
                for (size_t block = 0; block < parts.size(); block++)
                    forward_block<N, CELL>(p, int64_t(block), top, nullptr, parts[block]);
                finish_forward<N>(q, p, b, parts);
            }
        });
        return;
    }
    Rows<N> top;
    top.reserve(q.m);
    for (int64_t b = 0; b < q.batch; b++) {
        auto p = pair_of<R>(q, b);
        if (!N::DUAL && fits_shared(p)) share_exponents(p);
        std::vector<Partial> parts(size_t(p.m > 0 ? p.blocks() : 0));
        Progress progress(int64_t(parts.size()));
        start_rows(p, top, -L, p.m + 2 * L);
        parallel(q.threads, [&](int64_t k, int64_t count) {
            for (int64_t block = k; block < int64_t(parts.size()); block += count)
                forward_block<N, CELL>(p, block, top, &progress, parts[size_t(block)]);
        });
        finish_forward<N>(q, p, b, parts);
    }
}

// Zeros outside the valid cells, or a value everywhere inside them.
template <class R>
void fill_gradient(const Problem& q, const Pair<R>& p, bool inside, R value) {
    const int64_t size = size_of(q.d_type);
    for (int64_t i = 0; i < q.n; i++) {
        char* row = p.d_scores + i * q.m * size;
        const int64_t valid = i < p.n ? p.m : 0;
        std::memset(row + valid * size, 0, size_t((q.m - valid) * size));
        if (!inside) continue;
        for (int64_t j = 0; j < valid; j++) write<R>(row, int(q.d_type), j, 1, &value);
    }
}

// Fills what needs no sweep; true if the pair needs one.
template <class N, class R = typename N::Real>
bool start_backward(const Problem& q, Pair<R>& p, int64_t b, double* d_gaps) {
    const Header header = *p.header();
    const R g = ((const R*)q.grad)[b * q.grad_stride];
    const bool sweep = header.kind == SOUND && p.n > 0 && p.m > 0;
    const R nan = std::numeric_limits<R>::quiet_NaN();
    if (header.shared) share_exponents(p);
    if (sweep) {
        p.grad_over_z = R(double(g) / header.z.m);
        if (N::DUAL) {
            p.grad_over_z /= *(const R*)q.temperature;
            p.z_derivative = R(header.z.t / header.z.m);
        }
        p.z_low = typename Lanes<R>::I(header.z.e - Lanes<R>::BIAS);
        if (p.n < q.n || p.m < q.m) fill_gradient<R>(q, p, false, 0);
    } else {
        fill_gradient<R>(q, p, true, header.kind == NOT_FINITE ? nan : 0);
        if (q.gaps && header.kind == NOT_FINITE) {
            d_gaps[0] = d_gaps[1] = nan;
            for (const Gap* gap : {&p.open, &p.extend})
                if (!gap->one())
                    for (int64_t i = 0; i < (gap->row ? p.n : 1); i++)
                        for (int64_t j = 0; j < (gap->column ? p.m : 1); j++)
                            ((R*)gap->gradient)[i * gap->row + j * gap->column] = nan;
        }
    }
    return sweep;
}

template <class S, bool CELL, class N = typename S::Value, class R = typename N::Real>
void backward_batch(const Problem& q) {
    const int64_t L = Lanes<R>::L;
    const int64_t most = (q.n + ROWS - 1) / ROWS;
    const bool inside = q.batch < q.threads && most > 1;
    const bool many = q.gaps && q.batch > 1;
    const bool own_open = many && q.d_open_batch == 0 && q.d_open_size > 1;
    const bool own_extend = many && q.d_extend_batch == 0 && q.d_extend_size > 1;
    const int64_t count = inside ? q.threads : q.threads < q.batch ? q.threads : q.batch;
    std::vector<Workspace<N>> work(static_cast<size_t>(count));
    std::vector<double> d_gaps(size_t(2 * q.batch), 0.0);
    for (auto& a : work) {
        a.top.reserve(q.m);
        a.slots.reserve(1);
        if (!inside && own_open) a.d_open.assign(size_t(q.d_open_size), R(0));
        if (!inside && own_extend) a.d_extend.assign(size_t(q.d_extend_size), R(0));
        if (!inside || &a == &work[0]) a.below.reserve(q.m);
    }
    if (!inside) {
        parallel(count, [&](int64_t k, int64_t used) {
            auto& a = work[size_t(k)];
            for (int64_t b = k; b < q.batch; b += used) {
                auto p = pair_of<R>(q, b);
                if (own_open) p.open.gradient = (char*)a.d_open.data();
                if (own_extend) p.extend.gradient = (char*)a.d_extend.data();
                if (!start_backward<N>(q, p, b, &d_gaps[size_t(2 * b)])) continue;
                a.below.fill(-L, p.m + 3 * L, zero<N>(p), zero<N>(p), zero<N>(p));
                for (int64_t block = p.blocks() - 1; block >= 0; block--) {
                    Partial part;
                    backward_block<S, CELL>(p, block, a.top, a.slots, a.below, nullptr, part);
                    for (int g = 0; g < 2; g++) d_gaps[size_t(2 * b + g)] += part.d_gaps[g];
                }
            }
        });
        for (const auto& a : work) {
            for (size_t k = 0; k < a.d_open.size(); k++) ((R*)q.d_open)[k] += a.d_open[k];
            for (size_t k = 0; k < a.d_extend.size(); k++) ((R*)q.d_extend)[k] += a.d_extend[k];
        }
    } else {
        for (int64_t b = 0; b < q.batch; b++) {
            auto p = pair_of<R>(q, b);
            if (!start_backward<N>(q, p, b, &d_gaps[size_t(2 * b)])) continue;
            std::vector<Partial> parts(size_t(p.blocks()));
            Progress progress(p.blocks());
            auto& below = work[0].below;
            below.fill(-L, p.m + 3 * L, zero<N>(p), zero<N>(p), zero<N>(p));
            parallel(count, [&](int64_t k, int64_t used) {
                auto& a = work[size_t(k)];
                for (int64_t block = p.blocks() - 1 - k; block >= 0; block -= used)
                    backward_block<S, CELL>(p, block, a.top, a.slots, below, &progress, parts[size_t(block)]);
            });
            for (size_t block = parts.size(); block-- > 0;)
                for (int g = 0; g < 2; g++) d_gaps[size_t(2 * b + g)] += parts[block].d_gaps[g];
        }
    }
    if (!q.gaps) return;
    for (int g = 0; g < 2; g++) {
        R* out = (R*)(g == 0 ? q.d_open : q.d_extend);
        const int64_t batch = g == 0 ? q.d_open_batch : q.d_extend_batch;
        const bool one = g == 0 ? !q.d_open_row && !q.d_open_column : !q.d_extend_row && !q.d_extend_column;
        if (!one) continue;
        double all = 0;
        for (int64_t b = 0; b < q.batch; b++) {
            all += d_gaps[size_t(2 * b + g)];
            if (batch) out[b] = R(d_gaps[size_t(2 * b + g)]);
        }
        if (!batch) out[0] = R(all);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Hard alignment

// Score and path of one pair; ties as reference: the first maximum wins, and start < D < X < Y.
template <class R>
void hard_pair(const Problem& q, int64_t b) {
    const auto p = pair_of<R>(q, b);
    const R never = R(-1e37);
    int64_t* path = (int64_t*)q.path + b * (q.n < q.m ? q.n : q.m) * 2;
    std::vector<R> row(size_t(3 * p.m)), scores(size_t(p.m)), open(size_t(p.m)), extend(size_t(p.m));
    std::vector<uint8_t> choice(size_t(p.n * p.m));  // bits 0-1: where H came from; 2: X, 0 opened; 3-4: Y
    R *D = row.data(), *X = D + p.m, *Y = X + p.m;  // of the row above until overwritten
    for (auto& x : row) x = never;
    R best = -std::numeric_limits<R>::infinity();
    int64_t at = -1;
    bool sound = true;
    for (int64_t i = 0; i < p.n; i++) {
        read<R>(p.scores, i, 0, p.m, scores.data());
        read<R>(p.open.value, i, 0, p.m, open.data());
        read<R>(p.extend.value, i, 0, p.m, extend.data());
        uint8_t* to = choice.data() + i * p.m;
        R left_d = never, left_x = never, diagonal = 0;  // diagonal: H of (i-1, j-1)
        for (int64_t j = 0; j < p.m; j++) {
            const R s = scores[size_t(j)] <= R(FORBIDDEN) ? never : scores[size_t(j)];
            const R o = open[size_t(j)] > -never ? -never : open[size_t(j)];
            const R e = extend[size_t(j)] > -never ? -never : extend[size_t(j)];
            sound = sound && s == s && o == o && e == e;
            const R d = s + diagonal;
            const R above = D[j] > 0 ? D[j] : 0, both = X[j] > above ? X[j] : above;
            diagonal = Y[j] > both ? Y[j] : both;
            R x = left_d - o, y = D[j] - o;
            unsigned to_x = 0, to_y = 1, to_h = 0;
            if (left_x - e > x) x = left_x - e, to_x = 1;
            if (X[j] - o > y) y = X[j] - o, to_y = 2;
            if (Y[j] - e > y) y = Y[j] - e, to_y = 3;
            R h = 0;
            if (d > h) h = d, to_h = 1;
            if (x > h) h = x, to_h = 2;
            if (y > h) h = y, to_h = 3;
            to[j] = uint8_t(to_h | to_x << 2 | to_y << 3);
            D[j] = left_d = d;
            X[j] = left_x = x;
            Y[j] = y;
            if (d > best) best = d, at = i * p.m + j;
        }
    }
    int64_t found = 0;
    if (!sound) best = std::numeric_limits<R>::quiet_NaN();
    else if (!(best > never / 2)) best = 0;
    else {
        int64_t i = at / p.m, j = at % p.m;
        for (unsigned state = 1; state != 0 && i >= 0 && j >= 0;) {
            const unsigned here = choice[size_t(i * p.m + j)];
            if (state == 1) {
                path[2 * found] = i;
                path[2 * found + 1] = j;
                found++;
                i--, j--;
                state = i >= 0 && j >= 0 ? choice[size_t(i * p.m + j)] & 3 : 0;
            } else if (state == 2) {
                j--;
                state = here & 4 ? 2 : 1;
            } else {
                i--;
                state = here >> 3;
            }
        }
        for (int64_t k = 0; k < found / 2; k++)
            for (int64_t c = 0; c < 2; c++) std::swap(path[2 * k + c], path[2 * (found - 1 - k) + c]);
    }
    ((R*)q.score)[b] = best;
    ((int64_t*)q.count)[b] = found;
}

template <class R, bool CELL>
void run_soft(const Problem& q, int64_t what) {
    if (what == 0) forward_batch<Number<R>, CELL>(q);
    else if (q.gaps) backward_batch<GapSlot<Number<R>>, CELL>(q);
    else backward_batch<Slot<Number<R>>, CELL>(q);
}

template <class R>
void run(const Problem& q, int64_t what) {
    if (what == 2)
        parallel(q.threads < q.batch ? q.threads : q.batch, [&](int64_t k, int64_t count) {
            for (int64_t b = k; b < q.batch; b += count) hard_pair<R>(q, b);
        });
    else by_cell(q) ? run_soft<R, true>(q, what) : run_soft<R, false>(q, what);
}

// In float64 whatever the scores are: where one alignment has nearly all the mass, large numbers cancel.
template <bool CELL>
void run_second(const Problem& q) {
    forward_batch<Dual<double>, CELL>(q);
    backward_batch<GapSlot<Dual<double>>, CELL>(q);
}

}  // namespace

extern "C" void lac_poison(int byte) { poison = byte; }

// what: 0 forward, 1 gradient, 2 hard, 3 second. Not 0 when memory ran out.
extern "C" int lac_run(const char* values, int64_t what) {
    try {
        Problem q;
        std::memcpy(&q, values, sizeof q);
        if (what == 3) by_cell(q) ? run_second<true>(q) : run_second<false>(q);
        else q.type == FLOAT64 ? run<double>(q, what) : run<float>(q, what);
        return 0;
    } catch (const std::exception&) {
        return 1;
    }
}
