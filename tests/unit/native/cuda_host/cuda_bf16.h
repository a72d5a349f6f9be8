// bfloat16 for kernels that run on the CPU.
#pragma once

#include "shipway_kernel.hpp"

using __nv_bfloat16 = shipway::BFloat16;
inline float __bfloat162float(__nv_bfloat16 item) { return static_cast<float>(item); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return __nv_bfloat16(value); }
