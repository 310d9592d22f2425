// What generated kernels are written in: vectors of up to 16 lanes, halves, reductions over lanes
// and over the threads of a warp, elementary functions, the launch. CUDA C++, or with GO_EMULATED
// plain C++17, to the same bits but for elementary functions.
#ifndef GO_KERNEL_H
#define GO_KERNEL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct CUstream_st *go_stream;  // a cudaStream_t

#ifdef GO_EMULATED
#include "go_emulate.h"
#define GO_INLINE static inline
#define GO_UNROLL
#define GO_SHARED(name) unsigned char *const name = go::emulate::shared_memory()
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define GO_INLINE static __device__ __forceinline__
#define GO_UNROLL _Pragma("unroll")
#define GO_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

namespace go {

// Halves: 16 bits in memory, computed with as floats -------------------------------------------

struct f16 { uint16_t bits; };
struct bf16 { uint16_t bits; };

#ifdef GO_EMULATED
GO_INLINE float to_float(f16 x) { return emulate::from_f16(x.bits); }
GO_INLINE float to_float(bf16 x) { return emulate::from_bf16(x.bits); }
GO_INLINE f16 to_f16(float x) { return {emulate::to_f16(x)}; }
GO_INLINE bf16 to_bf16(float x) { return {emulate::to_bf16(x)}; }
#else
GO_INLINE float to_float(f16 x) { return __half2float(__ushort_as_half(x.bits)); }
GO_INLINE float to_float(bf16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }
GO_INLINE f16 to_f16(float x) { return {__half_as_ushort(__float2half_rn(x))}; }
GO_INLINE bf16 to_bf16(float x) { return {__bfloat16_as_ushort(__float2bfloat16_rn(x))}; }
#endif
GO_INLINE float round_f16(float x) { return to_float(to_f16(x)); }
GO_INLINE float round_bf16(float x) { return to_float(to_bf16(x)); }

// Scalars --------------------------------------------------------------------------------------

template <typename T> GO_INLINE T floor_div(T a, T b) {
    if (b == 0) return 0;
    const T q = a / b;
    return q - (T)(a % b != 0 && (a < 0) != (b < 0));
}
template <typename T> GO_INLINE T floor_mod(T a, T b) { return b == 0 ? 0 : a - floor_div(a, b) * b; }
GO_INLINE float floor_div(float a, float b) { return floorf(a / b); }
GO_INLINE double floor_div(double a, double b) { return floor(a / b); }
GO_INLINE float floor_mod(float a, float b) { return a - floorf(a / b) * b; }
GO_INLINE double floor_mod(double a, double b) { return a - floor(a / b) * b; }

// Smallest and largest: NaN where either is.
template <typename T> GO_INLINE T min(T a, T b) { return b < a ? b : a; }
template <typename T> GO_INLINE T max(T a, T b) { return b > a ? b : a; }
#ifdef GO_EMULATED
GO_INLINE float min(float a, float b) { return a != a ? a : b != b ? b : b < a ? b : a; }
GO_INLINE float max(float a, float b) { return a != a ? a : b != b ? b : b > a ? b : a; }
#else
GO_INLINE float min(float a, float b) {
    float out;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(out) : "f"(a), "f"(b));
    return out;
}
GO_INLINE float max(float a, float b) {
    float out;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(out) : "f"(a), "f"(b));
    return out;
}
#endif
GO_INLINE double min(double a, double b) { return a != a ? a : b != b ? b : b < a ? b : a; }
GO_INLINE double max(double a, double b) { return a != a ? a : b != b ? b : b > a ? b : a; }

template <typename T> GO_INLINE T abs(T x) { return x < 0 ? -x : x; }
GO_INLINE float abs(float x) { return fabsf(x); }
GO_INLINE double abs(double x) { return fabs(x); }

#define GO_FUNCTION_1(name) \
    GO_INLINE float name(float x) { return ::name##f(x); } \
    GO_INLINE double name(double x) { return ::name(x); }
#define GO_FUNCTION_2(name) \
    GO_INLINE float name(float x, float y) { return ::name##f(x, y); } \
    GO_INLINE double name(double x, double y) { return ::name(x, y); }
GO_FUNCTION_1(exp) GO_FUNCTION_1(exp2) GO_FUNCTION_1(expm1) GO_FUNCTION_1(log)
GO_FUNCTION_1(log1p) GO_FUNCTION_1(log2) GO_FUNCTION_1(sqrt) GO_FUNCTION_1(tanh)
GO_FUNCTION_1(erf) GO_FUNCTION_1(erfc) GO_FUNCTION_1(sin) GO_FUNCTION_1(cos)
GO_FUNCTION_1(tan) GO_FUNCTION_1(asin) GO_FUNCTION_1(acos) GO_FUNCTION_1(atan)
GO_FUNCTION_1(sinh) GO_FUNCTION_1(cosh) GO_FUNCTION_1(asinh) GO_FUNCTION_1(acosh)
GO_FUNCTION_1(atanh) GO_FUNCTION_1(floor) GO_FUNCTION_1(ceil) GO_FUNCTION_1(trunc)
GO_FUNCTION_1(rint)
GO_FUNCTION_2(pow) GO_FUNCTION_2(atan2) GO_FUNCTION_2(fmod)
GO_INLINE float round(float x) { return rintf(x); }
GO_INLINE double round(double x) { return ::rint(x); }
#ifdef GO_EMULATED
GO_INLINE float rsqrt(float x) { return 1 / sqrtf(x); }
GO_INLINE double rsqrt(double x) { return 1 / ::sqrt(x); }
GO_INLINE float normal_cdf(float x) { return (float)(0.5 * ::erfc(x * -0.70710678118654752440)); }
GO_INLINE double normal_cdf(double x) { return 0.5 * ::erfc(x * -0.70710678118654752440); }
#else
GO_INLINE float rsqrt(float x) { return ::rsqrtf(x); }
GO_INLINE double rsqrt(double x) { return ::rsqrt(x); }
GO_INLINE float normal_cdf(float x) { return ::normcdff(x); }
GO_INLINE double normal_cdf(double x) { return ::normcdf(x); }
#endif
GO_INLINE float exp_flushed(float x) { return expf(x); }
GO_INLINE double exp_flushed(double x) { return ::exp(x); }
GO_INLINE float sigmoid(float x) { return 1 / (1 + expf(-x)); }
GO_INLINE double sigmoid(double x) { return 1 / (1 + ::exp(-x)); }
GO_INLINE float logistic_cdf(float x) { return sigmoid(x); }
GO_INLINE double logistic_cdf(double x) { return sigmoid(x); }
GO_INLINE bool isnan(float x) { return x != x; }
GO_INLINE bool isnan(double x) { return x != x; }
GO_INLINE bool isinf(float x) { return fabsf(x) == (float)INFINITY; }
GO_INLINE bool isinf(double x) { return fabs(x) == (double)INFINITY; }
template <typename T> GO_INLINE T fma(T a, T b, T c) { return a * b + c; }
template <typename T> GO_INLINE T select(bool c, T a, T b) { return c ? a : b; }

// Vectors --------------------------------------------------------------------------------------

constexpr int vector_alignment(int bytes) { return bytes > 16 ? 16 : bytes; }

template <typename T, int N> struct alignas(vector_alignment(sizeof(T) * N)) vec {
    T lane[N];
};

#define GO_LANES GO_UNROLL for (int i = 0; i < N; i++)

template <int N, typename T> GO_INLINE vec<T, N> splat(T x) {
    vec<T, N> out;
    GO_LANES out.lane[i] = x;
    return out;
}
// base, base + step, ...
template <int N, typename T> GO_INLINE vec<T, N> ramp(T base, T step) {
    vec<T, N> out;
    GO_LANES out.lane[i] = base + (T)i * step;
    return out;
}
template <typename U, typename T, int N> GO_INLINE vec<U, N> cast(vec<T, N> x) {
    vec<U, N> out;
    GO_LANES out.lane[i] = (U)x.lane[i];
    return out;
}

#define GO_OPERATOR(R, symbol) \
    template <typename T, int N> GO_INLINE vec<R, N> operator symbol(vec<T, N> a, vec<T, N> b) { \
        vec<R, N> out; \
        GO_LANES out.lane[i] = (R)(a.lane[i] symbol b.lane[i]); \
        return out; \
    } \
    template <typename T, int N> GO_INLINE vec<R, N> operator symbol(vec<T, N> a, T b) { \
        vec<R, N> out; \
        GO_LANES out.lane[i] = (R)(a.lane[i] symbol b); \
        return out; \
    } \
    template <typename T, int N> GO_INLINE vec<R, N> operator symbol(T a, vec<T, N> b) { \
        vec<R, N> out; \
        GO_LANES out.lane[i] = (R)(a symbol b.lane[i]); \
        return out; \
    }
#define GO_ASSIGN(symbol) \
    template <typename T, int N> GO_INLINE void operator symbol##=(vec<T, N> &a, vec<T, N> b) { \
        GO_LANES a.lane[i] = (T)(a.lane[i] symbol b.lane[i]); \
    } \
    template <typename T, int N> GO_INLINE void operator symbol##=(vec<T, N> &a, T b) { \
        GO_LANES a.lane[i] = (T)(a.lane[i] symbol b); \
    }
GO_ASSIGN(+) GO_ASSIGN(*) GO_ASSIGN(&) GO_ASSIGN(|)
GO_OPERATOR(T, +) GO_OPERATOR(T, -) GO_OPERATOR(T, *) GO_OPERATOR(T, /) GO_OPERATOR(T, %)
GO_OPERATOR(T, &) GO_OPERATOR(T, |) GO_OPERATOR(T, ^) GO_OPERATOR(T, <<) GO_OPERATOR(T, >>)
GO_OPERATOR(bool, <) GO_OPERATOR(bool, <=) GO_OPERATOR(bool, ==) GO_OPERATOR(bool, !=)
GO_OPERATOR(bool, >) GO_OPERATOR(bool, >=)

#define GO_EACH_1(name) \
    template <typename T, int N> GO_INLINE auto name(vec<T, N> x) { \
        vec<decltype(name(T())), N> out; \
        GO_LANES out.lane[i] = name(x.lane[i]); \
        return out; \
    }
#define GO_EACH_2(name) \
    template <typename T, int N> GO_INLINE vec<T, N> name(vec<T, N> x, vec<T, N> y) { \
        vec<T, N> out; \
        GO_LANES out.lane[i] = name(x.lane[i], y.lane[i]); \
        return out; \
    } \
    template <typename T, int N> GO_INLINE vec<T, N> name(vec<T, N> x, T y) { \
        return name(x, splat<N>(y)); \
    } \
    template <typename T, int N> GO_INLINE vec<T, N> name(T x, vec<T, N> y) { \
        return name(splat<N>(x), y); \
    }
GO_EACH_1(exp) GO_EACH_1(exp_flushed) GO_EACH_1(exp2) GO_EACH_1(expm1) GO_EACH_1(log)
GO_EACH_1(log1p) GO_EACH_1(log2)
GO_EACH_1(sqrt) GO_EACH_1(rsqrt) GO_EACH_1(tanh) GO_EACH_1(erf) GO_EACH_1(erfc) GO_EACH_1(sin)
GO_EACH_1(cos) GO_EACH_1(tan) GO_EACH_1(asin) GO_EACH_1(acos) GO_EACH_1(atan) GO_EACH_1(sinh)
GO_EACH_1(cosh) GO_EACH_1(asinh) GO_EACH_1(acosh) GO_EACH_1(atanh) GO_EACH_1(floor)
GO_EACH_1(ceil) GO_EACH_1(trunc) GO_EACH_1(round) GO_EACH_1(abs) GO_EACH_1(sigmoid)
GO_EACH_1(normal_cdf) GO_EACH_1(logistic_cdf) GO_EACH_1(isnan) GO_EACH_1(isinf)
GO_EACH_1(to_float) GO_EACH_1(to_f16) GO_EACH_1(to_bf16) GO_EACH_1(round_f16) GO_EACH_1(round_bf16)
GO_EACH_2(pow) GO_EACH_2(atan2) GO_EACH_2(fmod) GO_EACH_2(min) GO_EACH_2(max)
GO_EACH_2(floor_div) GO_EACH_2(floor_mod)
template <typename T, int N> GO_INLINE vec<T, N> fma(vec<T, N> a, vec<T, N> b, vec<T, N> c) {
    return a * b + c;
}
// Lanes of several vectors in turn: a part, as long as one of them, of what comes out.
template <int PART, typename T, int N, typename... V>
GO_INLINE vec<T, N> turns(vec<T, N> a, V... more) {
    constexpr int of = 1 + sizeof...(V);
    const vec<T, N> all[of] = {a, more...};
    vec<T, N> out;
    GO_LANES out.lane[i] = all[(PART * N + i) % of].lane[(PART * N + i) / of];
    return out;
}
#define GO_ZIP(name, part) \
    template <typename V, typename... M> GO_INLINE V name(V a, M... more) { \
        return turns<part>(a, more...); \
    }
GO_ZIP(zip_low, 0) GO_ZIP(zip_high, 1)
GO_ZIP(zip3_low, 0) GO_ZIP(zip3_middle, 1) GO_ZIP(zip3_high, 2)
template <typename T, int N> GO_INLINE vec<T, N> select(vec<bool, N> c, vec<T, N> a, vec<T, N> b) {
    vec<T, N> out;
    GO_LANES out.lane[i] = c.lane[i] ? a.lane[i] : b.lane[i];
    return out;
}

// Memory ---------------------------------------------------------------------------------------

// N elements that lie aligned, in words of up to 16 bytes. `load`: through the read-only cache.
template <int N, typename T> GO_INLINE vec<T, N> load(const T *p) {
    vec<T, N> out;
#ifndef GO_EMULATED
    constexpr int bytes = sizeof(T) * N;
    if constexpr (bytes % 16 == 0) {
        GO_UNROLL for (int i = 0; i < bytes / 16; i++) {
            const uint4 word = __ldg(reinterpret_cast<const uint4 *>(p) + i);
            memcpy(reinterpret_cast<uint4 *>(&out) + i, &word, 16);
        }
    } else if constexpr (bytes == 8) {
        const uint2 word = __ldg(reinterpret_cast<const uint2 *>(p));
        memcpy(&out, &word, 8);
    } else if constexpr (bytes == 4) {
        const unsigned word = __ldg(reinterpret_cast<const unsigned *>(p));
        memcpy(&out, &word, 4);
    } else
#endif
    {
        out = *reinterpret_cast<const vec<T, N> *>(p);
    }
    return out;
}
// From memory that this kernel writes, too.
template <int N, typename T> GO_INLINE vec<T, N> read(const T *p) {
    return *reinterpret_cast<const vec<T, N> *>(p);
}
template <typename T, int N> GO_INLINE void store(T *p, vec<T, N> x) {
    *reinterpret_cast<vec<T, N> *>(p) = x;
}
// N elements from memory to shared memory, past the registers; there once `wait_copies` returns.
template <int N, typename T> GO_INLINE void copy_async(T *to, const T *from) {
    constexpr int bytes = sizeof(T) * N;
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "what cp.async copies");
#ifdef GO_EMULATED
    memcpy(to, from, bytes);
#else
    const unsigned at = (unsigned)__cvta_generic_to_shared(to);
    if constexpr (bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(from), "n"(bytes)
                     : "memory");
#endif
}
GO_INLINE void wait_copies() {
#ifndef GO_EMULATED
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
// Neighbours that do not lie aligned, or are registers.
template <int N, typename T> GO_INLINE vec<T, N> neighbours(const T *p) {
    vec<T, N> out;
    GO_LANES out.lane[i] = p[i];
    return out;
}
template <typename T, int N> GO_INLINE void spread(T *p, vec<T, N> x) { GO_LANES p[i] = x.lane[i]; }
// Elements `step` apart.
template <int N, typename T> GO_INLINE vec<T, N> strided(const T *p, int64_t step) {
    vec<T, N> out;
    GO_LANES out.lane[i] = p[i * step];
    return out;
}
template <typename T, int N> GO_INLINE void spread(T *p, vec<T, N> x, int64_t step) {
    GO_LANES p[i * step] = x.lane[i];
}
// Elements anywhere; lanes are stored in order.
template <typename I, typename T, int N> GO_INLINE vec<T, N> gather(const T *p, vec<I, N> at) {
    vec<T, N> out;
    GO_LANES out.lane[i] = p[at.lane[i]];
    return out;
}
template <typename I, typename T, int N> GO_INLINE void scatter(T *p, vec<I, N> at, vec<T, N> x) {
    GO_LANES p[at.lane[i]] = x.lane[i];
}

// Reductions: halves combined until one is left, over lanes or over W neighbouring threads -----

template <typename T> struct add { GO_INLINE T of(T a, T b) { return a + b; } };
template <typename T> struct mul { GO_INLINE T of(T a, T b) { return a * b; } };
template <typename T> struct least { GO_INLINE T of(T a, T b) { return min(a, b); } };
template <typename T> struct most { GO_INLINE T of(T a, T b) { return max(a, b); } };
template <typename T> struct all { GO_INLINE T of(T a, T b) { return a & b; } };
template <typename T> struct any { GO_INLINE T of(T a, T b) { return a | b; } };

template <template <typename> class Op, typename T, int N> GO_INLINE T reduce(vec<T, N> x) {
    if constexpr (N == 1) {
        return x.lane[0];
    } else {
        vec<T, N / 2> half;
        GO_UNROLL for (int i = 0; i < N / 2; i++) half.lane[i] = Op<T>::of(x.lane[i], x.lane[i + N / 2]);
        return reduce<Op>(half);
    }
}
template <template <typename> class Op, int W, typename T> GO_INLINE T warp_reduce(T x) {
    GO_UNROLL for (int distance = W / 2; distance; distance /= 2)
        x = Op<T>::of(x, (T)__shfl_xor_sync(0xFFFFFFFFu, x, distance));
    return x;
}
// The value that another thread of the warp has.
template <typename T> GO_INLINE T shuffle(T x, int lane) {
    return (T)__shfl_sync(0xFFFFFFFFu, x, lane);
}

// Tensor cores ---------------------------------------------------------------------------------

// d += a * b: 16 by 8, 16 steps of k. Four 8 by 8 matrices of halves from shared memory: lane i says
// where row i % 8 of matrix i / 8 begins.
#ifdef GO_EMULATED
GO_INLINE void multiply_16x8(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, f16) {
    emulate::multiply_16x8(d, a, b0, b1, emulate::from_f16);
}
GO_INLINE void multiply_16x8(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, bf16) {
    emulate::multiply_16x8(d, a, b0, b1, emulate::from_bf16);
}
template <bool transposed> GO_INLINE void load_matrices(unsigned (&out)[4], const void *row) {
    emulate::load_matrices(out, row, transposed);
}
#else
#define GO_MULTIPLY(T, name) \
    GO_INLINE void multiply_16x8(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, T) { \
        asm("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 {%0,%1,%2,%3}, " \
            "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)); \
    }
GO_MULTIPLY(f16, "f16")
GO_MULTIPLY(bf16, "bf16")
template <bool transposed> GO_INLINE void load_matrices(unsigned (&out)[4], const void *row) {
    const unsigned at = (unsigned)__cvta_generic_to_shared(row);
    if constexpr (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                     : "r"(at)
                     : "memory");
}
#endif

// acc += A * B, for a warp: M by N tiles of 16 by 8, 16 steps of k. `a` and `b` are where the warp's
// tile begins in shared memory; rows of A and columns of B lie `a_step` and `b_step` elements apart,
// along k. With `by_k`, steps of B lie `b_step` apart, along its columns.
template <bool by_k, int M, int N, typename T>
GO_INLINE void multiply(float (&acc)[M][N][4], const T *a, int a_step, const T *b, int b_step) {
    static_assert(N % 2 == 0, "columns are loaded 16 at a time");
    const int lane = threadIdx.x % 32;
    const int upper = lane / 8 % 2 * 8 + lane % 8, lower = lane / 16 * 8 + lane % 8;
    unsigned columns[N / 2][4];
    GO_UNROLL for (int j = 0; j < N / 2; j++) {
        const T *const at = by_k ? b + upper * b_step + 16 * j + lane / 16 * 8
                                 : b + (16 * j + lower) * b_step + lane / 8 % 2 * 8;
        load_matrices<by_k>(columns[j], at);
    }
    GO_UNROLL for (int i = 0; i < M; i++) {
        unsigned rows[4];
        load_matrices<false>(rows, a + (16 * i + upper) * a_step + lane / 16 * 8);
        GO_UNROLL for (int j = 0; j < N; j++)
            multiply_16x8(acc[i][j], rows, columns[j / 2][j % 2 * 2], columns[j / 2][j % 2 * 2 + 1], T());
    }
}
template <int M, int N, typename T>
GO_INLINE void multiply_tiles(float (&acc)[M][N][4], const T *a, int a_step, const T *b, int b_step) {
    multiply<false>(acc, a, a_step, b, b_step);
}
template <int M, int N, typename T>
GO_INLINE void multiply_tiles_by_k(float (&acc)[M][N][4], const T *a, int a_step, const T *b,
                                   int b_step) {
    multiply<true>(acc, a, a_step, b, b_step);
}

// Launch ---------------------------------------------------------------------------------------

template <typename... P>
static int launch(void (*kernel)(P...), int blocks, int threads, int shared_bytes, go_stream stream,
                  P... arguments) {
    if (blocks == 0) return 0;  // tensors without elements
#ifdef GO_EMULATED
    (void)stream;
    emulate::run(blocks, threads, shared_bytes, [=] { kernel(arguments...); });
    return 0;
#else
    if (shared_bytes > 48 << 10) {
        const cudaError_t error = cudaFuncSetAttribute(
            kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
        if (error != cudaSuccess) return cudaGetLastError();  // which the next call would find
    }
    kernel<<<blocks, threads, shared_bytes, stream>>>(arguments...);
    return cudaGetLastError();
#endif
}

}  // namespace go

#endif
