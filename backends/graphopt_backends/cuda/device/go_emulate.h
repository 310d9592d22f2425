// A GPU's execution model on one thread of a CPU: blocks one after the other, the threads of a
// block in an order of choice from one barrier to the next. A thread that reads what another one
// writes without a barrier between them gets something else in another order.
#ifndef GO_EMULATE_H
#define GO_EMULATE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "go_half.h"

#define __global__ static
#define __device__
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct go_dim {
    int x;
};

namespace go::emulate {

enum class Order { ascending, descending, shuffled };

inline float from_f16(uint16_t bits) { return go_from_f16(bits); }
inline float from_bf16(uint16_t bits) { return go_from_bf16(bits); }
inline uint16_t to_f16(float x) { return go_to_f16(x); }
inline uint16_t to_bf16(float x) { return go_to_bf16(x); }

// The order for launches from now on: GRAPHOPT_EMULATED_ORDER is 0, 1, or 2 and more for shuffles.
inline int order_of_launches() {
    const char *given = getenv("GRAPHOPT_EMULATED_ORDER");
    return given ? atoi(given) : 0;
}

// One stack on which threads of a block run: a thread that waits keeps it, one that ends leaves it
// to the next.
struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    int thread = -1;
};

class Block {
  public:
    Block(int threads, int shared_bytes)
        : threads_(threads), shared_(shared_bytes + 16), waits_(threads), slots_(threads) {}

    void run(int block, int order, const std::function<void()> &kernel) {
        memset(shared_.data(), 0xFF, shared_.size());  // NaN, -1
        kernel_ = &kernel, index_ = block, started_ = finished_ = 0;
        arrange(order);
        for (auto &w : waits_) w = Wait::none;
        while (finished_ < threads_) {
            const int before = finished_ + started_;
            bool moved = resume_waiting();
            while (started_ < threads_) start_next();
            moved |= finished_ + started_ != before;
            if (!(release() | moved)) fail("threads of a block disagree about a barrier or shuffle");
        }
    }

    void barrier() { wait(Wait::block); }

    // What the threads of a warp give each other, until the next time but one.
    template <typename T> struct Given {
        const Block *block;
        int first, turn;
        const T &from(int lane) const {
            return *reinterpret_cast<const T *>(block->slots_[first + lane].value[turn]);
        }
    };
    template <typename T> Given<T> give(const T &value) {
        static_assert(sizeof(T) <= sizeof(Slot::value[0]));
        const int thread = fiber_->thread;
        Slot &slot = slots_[thread];
        const int turn = slot.turn ^= 1;
        memcpy(slot.value[turn], &value, sizeof value);
        wait(Wait::warp);
        return {this, thread / 32 * 32, turn};
    }

    // What thread `lane` of the caller's warp gives to the same shuffle.
    template <typename T> T exchange(const T &value, int lane) {
        const int source = fiber_->thread / 32 * 32 + lane;
        const Given<T> given = give(value);
        return source < threads_ ? given.from(lane) : value;
    }

    int thread() const { return fiber_->thread; }
    int block() const { return index_; }
    int threads() const { return threads_; }
    unsigned char *shared() {
        return reinterpret_cast<unsigned char *>((reinterpret_cast<uintptr_t>(shared_.data()) + 15) &
                                                 ~(uintptr_t)15);
    }

  private:
    enum class Wait { none, block, warp, running };
    struct Slot {
        alignas(8) unsigned char value[2][24];
        int turn = 0;
    };

    [[noreturn]] static void fail(const char *what) {
        fprintf(stderr, "go_emulate: %s\n", what);
        abort();
    }

    void arrange(int order) {
        order_.resize(threads_);
        for (int i = 0; i < threads_; i++) order_[i] = order == 1 ? threads_ - 1 - i : i;
        uint64_t state = 0x9E3779B97F4A7C15u * (uint64_t)(order + index_ + 1);
        for (int i = threads_ - 1; order > 1 && i > 0; i--) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            std::swap(order_[i], order_[(state >> 33) % (uint64_t)(i + 1)]);
        }
    }

    // Threads that wait keep their fibers, in `suspended_`, in the order in which they stopped.
    bool resume_waiting() {
        bool moved = false;
        std::vector<Fiber *> ready;
        for (auto it = suspended_.begin(); it != suspended_.end();) {
            if (waits_[(*it)->thread] == Wait::none) {
                ready.push_back(*it);
                it = suspended_.erase(it);
            } else {
                ++it;
            }
        }
        for (Fiber *f : ready) moved = true, enter(f);
        return moved;
    }

    void start_next() {
        if (idle_.empty()) {
            fibers_.push_back(std::make_unique<Fiber>());
            Fiber *f = fibers_.back().get();
            f->stack.reset(new char[stack_bytes]);
            getcontext(&f->context);
            f->context.uc_stack.ss_sp = f->stack.get();
            f->context.uc_stack.ss_size = stack_bytes;
            f->context.uc_link = nullptr;
            const auto self = reinterpret_cast<uintptr_t>(this);
            makecontext(&f->context, reinterpret_cast<void (*)()>(&Block::main), 2,
                        (unsigned)(self >> 32), (unsigned)self);
            idle_.push_back(f);
        }
        Fiber *f = idle_.back();
        idle_.pop_back();
        enter(f);
    }

    void enter(Fiber *f) {
        fiber_ = f;
        swapcontext(&scheduler_, &f->context);
    }

    static void main(unsigned high, unsigned low) {
        auto *self = reinterpret_cast<Block *>((uintptr_t)high << 32 | low);
        for (Fiber *own = self->fiber_;;) {
            while (self->started_ < self->threads_) {
                own->thread = self->order_[self->started_++];
                (*self->kernel_)();
                self->waits_[own->thread] = Wait::running;
                self->finished_++;
            }
            self->idle_.push_back(own);
            swapcontext(&own->context, &self->scheduler_);
        }
    }

    void wait(Wait what) {
        Fiber *own = fiber_;
        waits_[own->thread] = what;
        suspended_.push_back(own);
        swapcontext(&own->context, &scheduler_);
    }

    // Warps whose threads have all come to a shuffle go on, and blocks at a barrier.
    bool release() {
        bool released = release(0, threads_, Wait::block);
        for (int w = 0; w < threads_; w += 32)
            released |= release(w, w + 32 < threads_ ? w + 32 : threads_, Wait::warp);
        return released;
    }

    bool release(int first, int last, Wait what) {
        for (int i = first; i < last; i++)
            if (waits_[i] != what) return false;
        for (int i = first; i < last; i++) waits_[i] = Wait::none;
        return true;
    }

    static constexpr size_t stack_bytes = 64 << 10;
    int threads_, index_ = 0, started_ = 0, finished_ = 0;
    std::vector<unsigned char> shared_;
    std::vector<Wait> waits_;
    std::vector<Slot> slots_;
    std::vector<int> order_;
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::vector<Fiber *> idle_, suspended_;
    Fiber *fiber_ = nullptr;
    ucontext_t scheduler_;
    const std::function<void()> *kernel_ = nullptr;
};

// The block that runs; one per thread of the CPU, so that models may run at the same time.
inline thread_local Block *current = nullptr;

inline void run(int blocks, int threads, int shared_bytes, const std::function<void()> &kernel) {
    Block block(threads, shared_bytes);
    Block *const outer = current;
    current = &block;
    const int order = order_of_launches();
    for (int i = 0; i < blocks; i++) block.run(order == 1 ? blocks - 1 - i : i, order, kernel);
    current = outer;
}

// ldmatrix: four 8 by 8 matrices of halves; lane i says where row i % 8 of matrix i / 8 begins. A
// thread gets two neighbours of a row, or of a column where they are transposed.
inline void load_matrices(unsigned (&out)[4], const void *row, bool transposed) {
    const int lane = current->thread() % 32;
    const auto rows = current->give(row);
    for (int m = 0; m < 4; m++) {
        out[m] = 0;
        for (int half = 0; half < 2; half++) {
            const int slow = lane / 4, fast = 2 * (lane % 4) + half;
            const int i = transposed ? fast : slow, j = transposed ? slow : fast;
            const auto *const begin = static_cast<const uint16_t *>(rows.from(8 * m + i));
            out[m] |= (unsigned)begin[j] << 16 * half;
        }
    }
}

// mma.m16n8k16: d += a * b, each thread holding the parts that the PTX manual gives it.
inline void multiply_16x8(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                          float (*to_float)(uint16_t)) {
    struct Parts {
        unsigned of[6];
    };
    const int lane = current->thread() % 32;
    const auto warp = current->give(Parts{{a[0], a[1], a[2], a[3], b0, b1}});
    for (int k = 0; k < 16; k++)
        for (int r = 0; r < 4; r++) {
            const int row = lane / 4 + 8 * (r / 2), column = 2 * (lane % 4) + r % 2;
            const unsigned x = warp.from(row % 8 * 4 + k % 8 / 2).of[k / 8 * 2 + row / 8];
            const unsigned y = warp.from(column * 4 + k % 8 / 2).of[4 + k / 8];
            d[r] += to_float((uint16_t)(x >> k % 2 * 16)) * to_float((uint16_t)(y >> k % 2 * 16));
        }
}

inline unsigned char *shared_memory() { return current->shared(); }

}  // namespace go::emulate

#define threadIdx (go_dim{go::emulate::current->thread()})
#define blockIdx (go_dim{go::emulate::current->block()})
#define blockDim (go_dim{go::emulate::current->threads()})

inline void __syncthreads() { go::emulate::current->barrier(); }
inline void __syncwarp() { go::emulate::current->give(0); }
template <typename T> T __shfl_xor_sync(unsigned, T x, int distance) {
    return go::emulate::current->exchange(x, (go::emulate::current->thread() & 31) ^ distance);
}
template <typename T> T __shfl_sync(unsigned, T x, int lane) {
    return go::emulate::current->exchange(x, lane & 31);
}

#endif
