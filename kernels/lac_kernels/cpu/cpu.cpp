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

#include "batch.h"
#include "hard.h"
#include "threads.h"

namespace {

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
