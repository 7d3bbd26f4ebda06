// Strided tensors of four types, and the tiles in which the sweeps read and write them.

#pragma once

#include <type_traits>

#include "batch.h"
#include "vector.h"

namespace {

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
    int64_t type;
};

Matrix matrix_of(const Tensor& a, int64_t pair) {
    return {a.data + pair * a.batch * size_of(a.type), a.row, a.column, a.type};
}

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
void write(char* out, int64_t type, int64_t at, int64_t count, const R* from) {
    const auto copy = [&](auto data, auto convert) {
        for (int64_t k = 0; k < count; k++) data[at + k] = convert(from[k]);
    };
    if (type == FLOAT32) copy((float*)out, [](R x) { return float(x); });
    else if (type == FLOAT64) copy((double*)out, [](R x) { return double(x); });
    else if (type == FLOAT16) copy((uint16_t*)out, [](R x) { return to_half(float(x)); });
    else copy((uint16_t*)out, [](R x) { return to_bfloat(float(x)); });
}

template <class R>
constexpr Type own_type = std::is_same<R, double>::value ? FLOAT64 : FLOAT32;

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
void write_part(char* out, int64_t type, int64_t width, int64_t n, int64_t m, int64_t i, int64_t t,
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
INLINE void write_tile(char* out, int64_t type, int64_t width, int64_t n, int64_t m, int64_t i, int64_t t,
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

struct Gap {
    Matrix value, direction;
    char* gradient;  // strides in elements, 0 where the gap is broadcast
    int64_t row, column;
    bool one() const { return row == 0 && column == 0; }
};

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

}  // namespace
