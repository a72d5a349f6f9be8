// Enough of CUDA to run a kernel on the CPU, one block after another. Each thread of a block is a
// fiber; shuffles and barriers hand over to the next one, so lanes meet there as in a warp.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __host__
#define __device__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x;
};
struct uint2 {
  unsigned x, y;
};
struct uint4 {
  unsigned x, y, z, w;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_host {

constexpr std::size_t kStackBytes = 32 << 10;
constexpr unsigned kWarp = 32;

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(kStackBytes);
  bool done = false;
  unsigned meetings = 0;
  std::uint64_t offers[2];  // of this meeting and the last: a neighbour may still read the last
};

inline ucontext_t scheduler;
inline std::vector<Fiber> fibers;
inline std::function<void()> body;

inline void meet() { swapcontext(&fibers[threadIdx.x].context, &scheduler); }

inline void enter() {
  body();
  fibers[threadIdx.x].done = true;
}

inline void run_block(unsigned threads) {
  fibers.resize(threads);
  for (Fiber& fiber : fibers) {
    fiber.done = false;
    fiber.meetings = 0;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, enter, 0);
  }
  for (bool running = true; running;) {
    running = false;
    for (unsigned thread = 0; thread < threads; ++thread) {
      if (fibers[thread].done) continue;
      threadIdx.x = thread;
      swapcontext(&scheduler, &fibers[thread].context);
      running = running || !fibers[thread].done;
    }
  }
}

template <class Kernel>
void launch(unsigned blocks, unsigned threads, const Kernel& kernel) {
  blockDim.x = threads;
  gridDim.x = blocks;
  body = kernel;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) run_block(threads);
}

}  // namespace cuda_host

inline void __syncthreads() { cuda_host::meet(); }

// All lanes of the warp must take part, the same number of times: anything else is a mistake in the
// kernel that a GPU would punish with a hang or with nonsense.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width) {
  using namespace cuda_host;
  const unsigned thread = threadIdx.x, lane = thread % kWarp;
  Fiber& mine = fibers[thread];
  const unsigned slot = mine.meetings++ % 2;
  std::memcpy(&mine.offers[slot], &value, sizeof(T));
  meet();
  const unsigned first = thread - lane + lane / width * width;
  const unsigned from = first + static_cast<unsigned>(source) % width;
  const Fiber& other = fibers[from];
  const bool together = other.meetings == mine.meetings || other.meetings == mine.meetings + 1;
  if (mask != 0xffffffffu || !together) {
    std::fprintf(stderr, "lane %u shuffles without lane %u\n", thread, from);
    std::abort();
  }
  std::memcpy(&value, &other.offers[slot], sizeof(T));
  return value;
}

template <class T>
T __ldg(const T* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % sizeof(T) != 0) std::abort();  // a GPU faults here
  return *from;
}
template <class T>
T __ldcs(const T* from) {
  return __ldg(from);
}
template <class T>
void __stcs(T* to, T value) {
  if (reinterpret_cast<std::uintptr_t>(to) % sizeof(T) != 0) std::abort();
  *to = value;
}
inline int min(int left, int right) { return left < right ? left : right; }
