// The numbers of PTX: what registers hold as bits and arithmetic takes as values.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using u128 = unsigned __int128;
using s128 = __int128;

template <class To, class From>
inline To cast(From x) {
  static_assert(sizeof(To) == sizeof(From), "bits are kept");
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}
inline float as_f32(u32 x) { return cast<float>(x); }
inline double as_f64(u64 x) { return cast<double>(x); }
inline u32 bits(float x) { return cast<u32>(x); }
inline u64 bits(double x) { return cast<u64>(x); }

// f16 and bf16 are computed with as float.
inline float from_f16(u16 h) {
  const u32 sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
  if (exponent == 31) return as_f32(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0) return as_f32(sign | bits(float(fraction) * 0x1p-24f));
  return as_f32(sign | (exponent + 112) << 23 | fraction << 13);
}
inline u16 to_f16(float x) {  // to the nearest, ties to even
  const u32 sign = bits(x) >> 16 & 0x8000, magnitude = bits(x) & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7fff;                                                  // NaN
  if (magnitude >= 0x477ff000) return sign | 0x7c00;                                          // 65520 or more
  if (magnitude < 0x38800000) return u16(sign | u32(nearbyintf(as_f32(magnitude) * 0x1p24f)));  // subnormal
  return u16(sign | (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13);
}
inline float from_bf16(u16 h) { return as_f32(u32(h) << 16); }
inline u16 to_bf16(float x) {
  if (x != x) return 0x7fff;
  return u16((bits(x) + 0x7fff + (bits(x) >> 16 & 1)) >> 16);
}

// .ftz: subnormal numbers become zero.
inline float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }
inline double flushed(double x) { return fabs(x) < 0x1p-1022 ? copysign(0, x) : x; }

// Minimum and maximum: of a NaN and a number, the number; -0 < +0. With .NaN a NaN wins.
inline float canonical_nan(float) { return as_f32(0x7fffffff); }
inline double canonical_nan(double) { return as_f64(0x7fffffffffffffff); }
template <class T>
inline T minimum(T a, T b) {
  if (a != a) return b != b ? canonical_nan(a) : b;
  if (b != b) return a;
  return a == b ? (std::signbit(a) ? a : b) : std::min(a, b);
}
template <class T>
inline T maximum(T a, T b) {
  if (a != a) return b != b ? canonical_nan(a) : b;
  if (b != b) return a;
  return a == b ? (std::signbit(a) ? b : a) : std::max(a, b);
}
template <class T>
inline T minimum_or_nan(T a, T b) {
  return a != a || b != b ? canonical_nan(a) : minimum(a, b);
}
template <class T>
inline T maximum_or_nan(T a, T b) {
  return a != a || b != b ? canonical_nan(a) : maximum(a, b);
}

template <class T>
inline T saturated(T x) {  // .sat: into 0 to 1; NaN becomes 0
  return x != x ? T(0) : minimum(maximum(x, T(0)), T(1));
}

// From a rounded number to an integer (cvt): clamped; NaN becomes 0, or 2^63 for 64 bits.
template <class T>
inline T to_integer(double x) {
  using limits = std::numeric_limits<T>;
  if (x != x) return sizeof(T) == 8 ? T(1ull << 63) : T(0);
  if (x <= double(limits::min())) return limits::min();
  if (x >= double(limits::max())) return limits::max();
  return T(x);
}

template <class T, class From>
inline T clamped(From x) {
  using limits = std::numeric_limits<T>;
  return T(std::min(std::max(s128(x), s128(limits::min())), s128(limits::max())));
}

// Integer arithmetic. Division by zero gives all ones, the remainder of it the dividend, as on the machine.
template <class T>
inline T quotient(T a, T b) {
  if (b == 0) return T(-1);
  if (std::numeric_limits<T>::is_signed && b == T(-1)) return T(0 - u64(a));
  return T(a / b);
}
template <class T>
inline T remainder_of(T a, T b) {
  if (b == 0) return a;
  if (std::numeric_limits<T>::is_signed && b == T(-1)) return 0;
  return T(a % b);
}
template <class T>
inline T extract_bits(T a, u32 from, u32 count) {  // bfe: what lies beyond the number or the count has the sign's bit
  const u32 last = sizeof(T) * 8 - 1;
  from &= 255, count &= 255;
  const T sign = a < 0 && count ? T(-1) : T(0), filled = from > last ? sign : T(a >> from);
  if (count > last) return filled;
  const u64 kept = (1ull << count) - 1, low = u64(filled) & kept;
  const bool negative = std::numeric_limits<T>::is_signed && count && (u64(filled) >> (count - 1) & 1);
  return T(negative ? low | ~kept : low);
}
inline u32 reversed_bits(u32 a) {
  u32 result = 0;
  for (int k = 0; k < 32; k++) result |= (a >> k & 1) << (31 - k);
  return result;
}
inline u64 reversed_bits(u64 a) { return u64(reversed_bits(u32(a))) << 32 | reversed_bits(u32(a >> 32)); }

// Shifts by the width or more leave zeros, or the sign.
template <class T>
inline T shifted_left(T a, u32 by) {
  return by >= sizeof(T) * 8 ? T(0) : T(a << by);
}
template <class T>
inline T shifted_right(T a, u32 by) {
  return by >= sizeof(T) * 8 ? T(a < 0 ? -1 : 0) : T(a >> by);
}
// shf: 32 of the 64 bits of high:low, shifted by at most 32.
inline u32 funnel_left(u32 low, u32 high, u32 by) { return u32(((u64(high) << 32 | low) << by) >> 32); }
inline u32 funnel_right(u32 low, u32 high, u32 by) { return u32((u64(high) << 32 | low) >> by); }

inline u32 any_of_three(u32 a, u32 b, u32 c, u32 table) {  // lop3: bit k of the table is the value for (a, b, c) = k
  u32 result = 0;
  for (int k = 0; k < 8; k++)
    if (table >> k & 1) result |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
  return result;
}
inline u32 permuted_bytes(u32 a, u32 b, u32 selectors) {  // prmt: bit 3 of a selector asks for the sign only
  const u64 bytes = u64(b) << 32 | a;
  u32 result = 0;
  for (int k = 0; k < 4; k++) {
    const u32 selector = selectors >> 4 * k & 15;
    u32 byte = u32(bytes >> 8 * (selector & 7)) & 255;
    if (selector & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << 8 * k;
  }
  return result;
}
