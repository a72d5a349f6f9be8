// The CUDA kernels of multi-scale deformable attention, on the CPU.
#include "cuda_host.hpp"
// The kernel's own file, unchanged.
#include "multi_scale_deformable_attn.cu"

namespace shipway::msda_cuda {
Level shared_levels[4096];
}

using shipway::msda_cuda::Level;
using shipway::msda_cuda::Point;
using shipway::msda_cuda::Problem;

extern "C" {

int run_kernel(const char* name, const Problem* problem, unsigned blocks, unsigned threads) {
  const struct {
    const char* name;
    void (*run)(Problem);
  } kernels[] = {{"multi_scale_deformable_attn_f32", multi_scale_deformable_attn_f32},
                 {"multi_scale_deformable_attn_f16", multi_scale_deformable_attn_f16},
                 {"multi_scale_deformable_attn_bf16", multi_scale_deformable_attn_bf16},
                 {"multi_scale_deformable_attn_f64", multi_scale_deformable_attn_f64}};
  for (const auto& kernel : kernels) {
    if (std::strcmp(kernel.name, name) != 0) continue;
    cuda_host::launch(blocks, threads, [&] { kernel.run(*problem); });
    return 0;
  }
  return 1;
}

int problem_bytes() { return static_cast<int>(sizeof(Problem)); }
int level_bytes() { return static_cast<int>(sizeof(Level)); }

// Writes pixel, width, the mask of corners inside and their four weights.
void make_point(int height, int width, int start, float x, float y, float attention, double* out) {
  const Point<float> point =
      shipway::msda_cuda::make_point(Level{height, width, start}, x, y, attention);
  out[0] = point.pixel;
  out[1] = point.width;
  out[2] = point.inside;
  for (int corner = 0; corner < 4; ++corner) out[3 + corner] = point.weights[corner];
}

}  // extern "C"
