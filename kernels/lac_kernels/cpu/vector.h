// SIMD vectors of float32 or float64 lanes, in the extensions of GCC and Clang: no intrinsics.

#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define INLINE static inline __attribute__((always_inline))

namespace {

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

}  // namespace
