// Multi-scale deformable attention on CUDA: for each query and head, the weighted sum of points
// sampled bilinearly from feature maps of several sizes (align_corners=False, zero outside).
//
// A group of lanes computes one query and head, each lane a few neighbouring channels. Every lane
// prepares one point and shuffles it to its group, so coordinates are worked out once. Sums are
// float32 (float64 for float64). Nothing here needs a header of a framework: the file compiles to a
// fatbin that the driver API loads.
//
// Source: Zhu et al., Deformable DETR (arXiv 2010.04159); layouts of mmcv's
// multi_scale_deformable_attn.

#include <cassert>
#include <cstdint>
#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "multi_scale_deformable_attn.cuh"

namespace shipway::msda_cuda {

constexpr unsigned kWholeWarp = 0xffffffffu;
constexpr int kWarp = 32, kThreads = 256;

// Mirrored, field by field, by the ctypes structure in ops/cuda_multi_scale_deformable_attn.py.
struct Problem {
  const void* value;              // [batch, pixels, heads, channels]
  const std::int64_t* sizes;      // [levels, 2], height and width
  const std::int64_t* starts;     // [levels]
  const void* locations;          // [batch, queries, heads, levels, points, 2], x and y
  const void* weights;            // [batch, queries, heads, levels, points]
  void* out;                      // [batch, queries, heads * channels]
  std::int64_t pixels, queries;   // of one batch entry
  std::int64_t items;             // batch * queries * heads
  std::int32_t heads, channels, levels, points;
  std::int32_t vector;            // channels a lane loads at once; divides channels
  std::int32_t lanes;             // of a group, a power of two up to 32
};

extern __shared__ Level shared_levels[];

template <class T>
struct Element;
template <>
struct Element<float> {
  using Real = float;
  __device__ static Real widen(float item) { return item; }
  __device__ static float narrow(Real item) { return item; }
};
template <>
struct Element<double> {
  using Real = double;
  __device__ static Real widen(double item) { return item; }
  __device__ static double narrow(Real item) { return item; }
};
template <>
struct Element<__half> {
  using Real = float;
  __device__ static Real widen(__half item) { return __half2float(item); }
  __device__ static __half narrow(Real item) { return __float2half_rn(item); }
};
template <>
struct Element<__nv_bfloat16> {
  using Real = float;
  __device__ static Real widen(__nv_bfloat16 item) { return __bfloat162float(item); }
  __device__ static __nv_bfloat16 narrow(Real item) { return __float2bfloat16_rn(item); }
};

template <int kBytes>
struct Word;
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

// Several elements that travel in one memory access.
template <class T, int kCount>
struct Pack {
  using Raw = typename Word<sizeof(T) * kCount>::type;
  Raw raw;

  __device__ static Pack load(const T* from) { return {__ldg(reinterpret_cast<const Raw*>(from))}; }
  // Outputs are not read again: they leave the cache to the value.
  __device__ void store(T* to) const { __stcs(reinterpret_cast<Raw*>(to), raw); }
  __device__ void unpack(T (&items)[kCount]) const { memcpy(items, &raw, sizeof(raw)); }
  __device__ void pack(const T (&items)[kCount]) { memcpy(&raw, items, sizeof(raw)); }
};

// Locations and weights are read once: they leave the cache to the value.
template <class T>
__device__ __forceinline__ typename Element<T>::Real read_once(const T* from) {
  Pack<T, 1> pack{__ldcs(reinterpret_cast<const typename Pack<T, 1>::Raw*>(from))};
  T item[1];
  pack.unpack(item);
  return Element<T>::widen(item[0]);
}

__device__ Level read_level(const Problem& problem, int level) {
  const std::int64_t height = problem.sizes[2 * level], width = problem.sizes[2 * level + 1];
  const std::int64_t start = problem.starts[level];
  const bool whole = height >= 0 && width >= 0 && start >= 0 && start <= problem.pixels;
  const std::int64_t room = whole ? problem.pixels - start : 0;
  assert(whole && (height == 0 || width <= room / height) &&
         "MultiScaleDeformableAttn: a level does not fit into the pixels of the value; check "
         "spatial_shapes (height, width) and level_start_index");
  return {static_cast<std::int32_t>(height), static_cast<std::int32_t>(width),
          static_cast<std::int32_t>(start)};
}

template <class Real>
__device__ __forceinline__ Point<Real> from_member(const Point<Real>& mine, int member, int lanes) {
  Point<Real> point;
  point.pixel = __shfl_sync(kWholeWarp, mine.pixel, member, lanes);
  point.width = __shfl_sync(kWholeWarp, mine.width, member, lanes);
  point.inside = __shfl_sync(kWholeWarp, mine.inside, member, lanes);
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    point.weights[corner] = __shfl_sync(kWholeWarp, mine.weights[corner], member, lanes);
  }
  return point;
}

// All four loads are issued before the first one is used.
template <class T, int kVector>
__device__ __forceinline__ void add_point(const Point<typename Element<T>::Real>& point,
                                          const T* value, std::int64_t pixel_stride,
                                          typename Element<T>::Real (&sums)[kVector]) {
  Pack<T, kVector> corners[4];
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    const std::int64_t below = corner / 2 == 1 ? point.width : 0;
    const std::int64_t pixel = point.pixel + below + corner % 2;
    corners[corner] = {};
    if (point.inside >> corner & 1) {
      corners[corner] = Pack<T, kVector>::load(value + pixel * pixel_stride);
    }
  }
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    T items[kVector];
    corners[corner].unpack(items);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      sums[i] = std::fma(point.weights[corner], Element<T>::widen(items[i]), sums[i]);
    }
  }
}

template <class T>
struct Item {
  const T* value;      // the head's first channel of the batch entry's first pixel
  const T* locations;
  const T* weights;
  T* out;

  __device__ Item(const Problem& problem, std::int64_t item) {
    const std::int64_t row = item / problem.heads, head = item - row * problem.heads;
    const std::int64_t first = row / problem.queries * problem.pixels * problem.heads + head;
    const std::int64_t samples = std::int64_t{problem.levels} * problem.points;
    value = static_cast<const T*>(problem.value) + first * problem.channels;
    locations = static_cast<const T*>(problem.locations) + item * samples * 2;
    weights = static_cast<const T*>(problem.weights) + item * samples;
    out = static_cast<T*>(problem.out) + item * problem.channels;
  }

  __device__ __forceinline__ Point<typename Element<T>::Real> point(int sample, int points) const {
    return make_point(shared_levels[sample / points], read_once(locations + 2 * sample),
                      read_once(locations + 2 * sample + 1), read_once(weights + sample));
  }
};

// Sums channels [channel, channel + kVector) of one item. Every lane of the warp takes part in the
// shuffles; a lane whose channels do not exist reads nothing.
template <class T, int kVector>
__device__ __forceinline__ void sum_points(const Problem& problem, const Item<T>& item,
                                           int member, int channel,
                                           typename Element<T>::Real (&sums)[kVector]) {
  using Real = typename Element<T>::Real;
  const int samples = problem.levels * problem.points;
  const std::int64_t pixel_stride = std::int64_t{problem.heads} * problem.channels;
  const std::int32_t readable = channel < problem.channels ? 15 : 0;
  for (int first = 0; first < samples; first += problem.lanes) {
    Point<Real> mine{};
    if (first + member < samples) mine = item.point(first + member, problem.points);
    const int count = min(problem.lanes, samples - first);
#pragma unroll 2
    for (int i = 0; i < count; ++i) {
      Point<Real> point = from_member(mine, i, problem.lanes);
      point.inside &= readable;
      add_point<T, kVector>(point, item.value + channel, pixel_stride, sums);
    }
  }
}

template <class T, int kVector>
__device__ __forceinline__ void attend(const Problem& problem) {
  using Real = typename Element<T>::Real;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, member = lane % problem.lanes;
  const int groups = kWarp / problem.lanes, group = lane / problem.lanes;
  const std::int64_t warps = std::int64_t{blockDim.x} / kWarp;
  const std::int64_t warp = blockIdx.x * warps + threadIdx.x / kWarp;
  const std::int64_t step = gridDim.x * warps * groups;
  for (std::int64_t first = warp * groups; first < problem.items; first += step) {
    // Groups past the end go through the last item once more, for the shuffles' sake.
    const bool exists = first + group < problem.items;
    const Item<T> item(problem, exists ? first + group : problem.items - 1);
    for (int done = 0; done < problem.channels; done += problem.lanes * kVector) {
      const int channel = done + member * kVector;
      Real sums[kVector] = {};
      sum_points<T, kVector>(problem, item, member, channel, sums);
      if (!exists || channel >= problem.channels) continue;
      T narrow[kVector];
#pragma unroll
      for (int i = 0; i < kVector; ++i) narrow[i] = Element<T>::narrow(sums[i]);
      Pack<T, kVector> pack;
      pack.pack(narrow);
      pack.store(item.out + channel);
    }
  }
}

template <class T>
__device__ __forceinline__ void run(const Problem& problem) {
  for (int level = static_cast<int>(threadIdx.x); level < problem.levels;
       level += static_cast<int>(blockDim.x)) {
    shared_levels[level] = read_level(problem, level);
  }
  __syncthreads();
  if (problem.vector == 1) return attend<T, 1>(problem);
  if (problem.vector == 2) return attend<T, 2>(problem);
  if constexpr (sizeof(T) <= 4) {
    if (problem.vector == 4) return attend<T, 4>(problem);
  }
  if constexpr (sizeof(T) <= 2) {
    if (problem.vector == 8) return attend<T, 8>(problem);
  }
  assert(false && "MultiScaleDeformableAttn: the launch rule asked for an unknown vector width");
}

}  // namespace shipway::msda_cuda

extern "C" {

__global__ void __launch_bounds__(shipway::msda_cuda::kThreads)
    multi_scale_deformable_attn_f32(const shipway::msda_cuda::Problem problem) {
  shipway::msda_cuda::run<float>(problem);
}

__global__ void __launch_bounds__(shipway::msda_cuda::kThreads)
    multi_scale_deformable_attn_f16(const shipway::msda_cuda::Problem problem) {
  shipway::msda_cuda::run<__half>(problem);
}

__global__ void __launch_bounds__(shipway::msda_cuda::kThreads)
    multi_scale_deformable_attn_bf16(const shipway::msda_cuda::Problem problem) {
  shipway::msda_cuda::run<__nv_bfloat16>(problem);
}

__global__ void __launch_bounds__(shipway::msda_cuda::kThreads)
    multi_scale_deformable_attn_f64(const shipway::msda_cuda::Problem problem) {
  shipway::msda_cuda::run<double>(problem);
}

}  // extern "C"
