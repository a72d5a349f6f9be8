// Conveniences for kernels written in C++17: half types, views of tensors, loops on the host's pool.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <atomic>
#include <string>

#include "shipway_op.h"

namespace shipway {

inline constexpr std::int32_t kFloats[] = {SHIPWAY_FLOAT32, SHIPWAY_FLOAT16, SHIPWAY_BFLOAT16,
                                           SHIPWAY_FLOAT64, 0};

// IEEE 754 binary16, kept as bits; converts exactly one way and rounds to nearest even the other.
struct Float16 {
  std::uint16_t bits;

  Float16() = default;
  explicit Float16(float value) {
    std::uint32_t x;
    std::memcpy(&x, &value, 4);
    const std::uint32_t sign = (x >> 16) & 0x8000u, rest = x & 0x7fffffffu;
    if (rest > 0x7f800000u) {
      bits = static_cast<std::uint16_t>(sign | 0x7e00u);
    } else if (rest >= 0x477ff000u) {  // rounds to 65536 or is infinite
      bits = static_cast<std::uint16_t>(sign | 0x7c00u);
    } else if (rest < 0x38800000u) {  // subnormal: let the FPU round
      float magnitude, magic = 0.5f;
      std::memcpy(&magnitude, &rest, 4);
      magnitude += magic;
      std::uint32_t y;
      std::memcpy(&y, &magnitude, 4);
      bits = static_cast<std::uint16_t>(sign | (y - 0x3f000000u));
    } else {
      const std::uint32_t odd = (rest >> 13) & 1u;
      bits = static_cast<std::uint16_t>(sign | ((rest - 0x38000000u + 0xfffu + odd) >> 13));
    }
  }
  explicit operator float() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;
    std::uint32_t x;
    if (rest >= 0x7c00u) {
      x = sign | 0x7f800000u | ((rest & 0x3ffu) << 13);
    } else if (rest >= 0x400u) {
      x = sign | ((rest << 13) + 0x38000000u);
    } else {
      const float value = static_cast<float>(rest) * 5.9604644775390625e-8f;  // 2^-24
      std::memcpy(&x, &value, 4);
      x |= sign;
    }
    float value;
    std::memcpy(&value, &x, 4);
    return value;
  }
};

// bfloat16: the upper half of a float32.
struct BFloat16 {
  std::uint16_t bits;

  BFloat16() = default;
  explicit BFloat16(float value) {
    std::uint32_t x;
    std::memcpy(&x, &value, 4);
    bits = (x & 0x7fffffffu) > 0x7f800000u
               ? static_cast<std::uint16_t>((x >> 16) | 0x40u)
               : static_cast<std::uint16_t>((x + 0x7fffu + ((x >> 16) & 1u)) >> 16);
  }
  explicit operator float() const {
    const std::uint32_t x = static_cast<std::uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &x, 4);
    return value;
  }
};

// The type a kernel computes in: float for anything narrower, double for double.
template <class T>
struct Wide {
  using type = float;
};
template <>
struct Wide<double> {
  using type = double;
};
template <class T>
using wide_t = typename Wide<T>::type;

template <class T>
const T* data(const shipway_tensor& tensor) {
  return static_cast<const T*>(tensor.data);
}
template <class T>
T* data(shipway_tensor& tensor) {
  return static_cast<T*>(tensor.data);
}

inline bool present(const shipway_tensor& tensor) { return tensor.rank >= 0; }

inline std::int64_t elements(const shipway_tensor& tensor) {
  std::int64_t count = 1;
  for (std::int32_t axis = 0; axis < tensor.rank; ++axis) count *= tensor.shape[axis];
  return count;
}

// Product of sizes, or -1 while one of them is unknown.
inline std::int64_t product(std::int64_t left, std::int64_t right) {
  return left < 0 || right < 0 ? -1 : left * right;
}

inline void set_shape(shipway_shape& shape, std::initializer_list<std::int64_t> sizes) {
  shape.rank = static_cast<std::int32_t>(sizes.size());
  std::int32_t axis = 0;
  for (const std::int64_t size : sizes) shape.dims[axis++] = size;
}

// Sizes as messages show them: "[2, ?, 8]".
inline std::string shape_text(const std::int64_t* sizes, std::int32_t rank) {
  std::string text = "[";
  for (std::int32_t axis = 0; axis < rank; ++axis) {
    text += (axis > 0 ? ", " : "") + (sizes[axis] < 0 ? std::string("?") : std::to_string(sizes[axis]));
  }
  return text + "]";
}
inline std::string shape_text(const shipway_tensor& tensor) {
  return shape_text(tensor.shape, tensor.rank);
}

inline int fail(shipway_host* host, const char* message) {
  if (host != nullptr && host->fail != nullptr) host->fail(host, message);
  return 1;
}
inline int fail(shipway_host* host, const std::string& message) { return fail(host, message.c_str()); }

// Runs body(begin, end) over [0, count) on the runtime's threads. An exception in a body (memory ran
// out) stops the others and is returned as failure.
template <class Body>
int parallel(shipway_host* host, std::int64_t count, std::int64_t grain, const Body& body) {
  struct Call {
    const Body* body;
    std::atomic<bool> failed;
  } call{&body, {false}};
  const shipway_body run = [](std::int64_t begin, std::int64_t end, void* context) {
    Call& self = *static_cast<Call*>(context);
    if (self.failed.load(std::memory_order_relaxed)) return;
    try {
      (*self.body)(begin, end);
    } catch (...) {
      self.failed.store(true);
    }
  };
  if (count <= 0) return 0;
  if (host == nullptr || host->parallel_for == nullptr || count <= grain) {
    run(0, count, &call);
  } else {
    host->parallel_for(host, count, grain, run, &call);
  }
  return call.failed.load() ? fail(host, "the kernel ran out of memory") : 0;
}

// Calls function(tag) with a value of the C++ type that a T tensor holds: float, Float16, ...
template <class Function>
int with_float(std::int32_t dtype, shipway_host* host, const Function& function) {
  switch (dtype) {
    case SHIPWAY_FLOAT32: return function(float{});
    case SHIPWAY_FLOAT64: return function(double{});
    case SHIPWAY_FLOAT16: return function(Float16{});
    case SHIPWAY_BFLOAT16: return function(BFloat16{});
    default: return fail(host, "the kernel does not take this dtype");
  }
}

}  // namespace shipway
