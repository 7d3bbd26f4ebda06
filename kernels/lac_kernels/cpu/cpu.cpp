// Soft Smith-Waterman with affine gaps on SIMD lanes: score, gradient, Hessian-vector product and hard
// alignment. Compiled by library.py, called by launch.py.
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
// float64, with s' = s v_S / T, o' = -o v_o / T, e' = -e v_e / T and
// posterior' = (d' bd + d bd') / Z - posterior Z' / Z.
//
// Where to look: lanes, steps and strips sweep.h; the equations of a step exponents.h; blocks, windows and what the
// forward keeps block.h; pairs and threads soft.h; hard alignment hard.h; numbers number.h and vector.h; what Python
// gives batch.h, one pair of it pair.h, tensors tensor.h and tile.h. All of it is one translation unit: this file.

#include <exception>

#include "hard.h"
#include "soft.h"

namespace {

template <class R, bool CELL>
void gradient(const Batch& batch) {
    batch.gaps ? backward_batch<Number<R>, true, CELL>(batch) : backward_batch<Number<R>, false, CELL>(batch);
}

template <class R>
void gradient(const Batch& batch) {
    by_cell(batch) ? gradient<R, true>(batch) : gradient<R, false>(batch);
}

template <class N>
void forward(const Batch& batch) {
    by_cell(batch) ? forward_batch<N, true>(batch) : forward_batch<N, false>(batch);
}

template <bool CELL>
void second(const Batch& batch) {
    forward_batch<Dual<double>, CELL>(batch);
    backward_batch<Dual<double>, true, CELL>(batch);
}

bool is_double(const Batch& batch) { return batch.scores.type == FLOAT64; }

enum Outcome { DONE, NO_MEMORY, WRONG_ROOM };  // launch.py knows them

// Nothing is thrown beyond the C interface. `number`: the bytes of each number that is kept in `saved`.
template <class Run>
Outcome guarded(const Batch& batch, int64_t number, const Run& run) {
    if (batch.saved && batch.saved_bytes != Room(batch.n, batch.m).bytes(batch.n, batch.m, number)) return WRONG_ROOM;
    if (batch.pairs == 0) return DONE;
    try {
        run();
        return DONE;
    } catch (const std::exception&) {
        return NO_MEMORY;
    }
}

int64_t number_bytes(const Batch& batch) { return is_double(batch) ? 16 : 8; }  // a mantissa and an exponent
constexpr int64_t DUAL_BYTES = 24;                                              // and a derivative, in float64

}  // namespace

extern "C" {

const char* lac_layout() {
    static const std::string text = layout();
    return text.c_str();
}

void lac_poison(int byte) { poison = byte; }

int lac_forward(const Batch* batch) {
    return guarded(*batch, number_bytes(*batch), [&] {
        is_double(*batch) ? forward<Number<double>>(*batch) : forward<Number<float>>(*batch);
    });
}

int lac_gradient(const Batch* batch) {
    return guarded(*batch, number_bytes(*batch), [&] {
        is_double(*batch) ? gradient<double>(*batch) : gradient<float>(*batch);
    });
}

// In float64 whatever the scores are: where one alignment has nearly all the mass, large numbers cancel.
int lac_second(const Batch* batch) {
    return guarded(*batch, DUAL_BYTES, [&] { by_cell(*batch) ? second<true>(*batch) : second<false>(*batch); });
}

int lac_hard(const Batch* batch) {
    return guarded(*batch, 0, [&] { is_double(*batch) ? hard_batch<double>(*batch) : hard_batch<float>(*batch); });
}

}  // extern "C"
