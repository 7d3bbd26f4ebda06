// Strided tensors of four types, and one pair's view of them.

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

// One pair's view of a gap penalty, of its direction and of its gradient: its strides are 0 where it is broadcast.
struct Gap {
    Matrix value, direction;
    char* gradient;
    int64_t row, column;
    bool one() const { return row == 0 && column == 0; }
};

template <class R>
R number_at(const void* data) {
    return *(const R*)data;
}

Gap gap_of(const Tensor& value, const Tensor& gradient, const Tensor& direction, int64_t b) {
    return {matrix_of(value, b), matrix_of(direction, b),
            gradient.data ? gradient.data + b * gradient.batch * size_of(gradient.type) : nullptr, gradient.row,
            gradient.column};
}

}  // namespace
