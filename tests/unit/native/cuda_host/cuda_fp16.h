// float16 for kernels that run on the CPU.
#pragma once

#include "shipway_kernel.hpp"

using __half = shipway::Float16;
inline float __half2float(__half item) { return static_cast<float>(item); }
inline __half __float2half_rn(float value) { return __half(value); }
