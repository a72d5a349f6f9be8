// A stand-in for libcuda.so.1 whose one GPU is the CPU: what Shipway asks of the driver, and the
// memory and the clock that a check needs beside it. Kernels are those of the host library.
#include <chrono>

#include "multi_scale_deformable_attn_host.cpp"

namespace {

constexpr int kInvalidValue = 1, kNoBinary = 209, kNotFound = 500;
const char* kernels[] = {
    "multi_scale_deformable_attn_f32", "multi_scale_deformable_attn_f16",
    "multi_scale_deformable_attn_bf16", "multi_scale_deformable_attn_f64"};
int contexts_entered = 0;

}  // namespace

extern "C" {

int cuInit(unsigned flags) { return flags == 0 ? 0 : kInvalidValue; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int index) { return *device = 40 + index, index == 0 ? 0 : 101; }
int cuDeviceGetName(char* name, int bytes, int) { return std::snprintf(name, bytes, "the CPU"), 0; }
int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = 2;
  return attribute == 16 && device == 40 ? 0 : kInvalidValue;
}
int cuGetErrorName(int code, const char** text) {
  *text = code == kNoBinary ? "CUDA_ERROR_NO_BINARY_FOR_GPU" : "CUDA_ERROR_STAND_IN";
  return 0;
}
int cuGetErrorString(int, const char** text) { return *text = "told by the stand-in", 0; }

int cuDevicePrimaryCtxRetain(void** context, int device) {
  *context = &contexts_entered;
  return device == 40 ? 0 : kInvalidValue;
}
int cuCtxPushCurrent_v2(void* context) {
  ++contexts_entered;
  return context == &contexts_entered ? 0 : kInvalidValue;
}
int cuCtxPopCurrent_v2(void** context) {
  *context = &contexts_entered;
  return --contexts_entered >= 0 ? 0 : kInvalidValue;
}
int cuCtxSynchronize() { return contexts_entered > 0 ? 0 : kInvalidValue; }

int cuModuleLoadData(void** module, const void* image) {
  constexpr unsigned char kFatbin[] = {0x50, 0xed, 0x55, 0xba};
  *module = &contexts_entered;
  if (contexts_entered == 0) return kInvalidValue;
  return std::memcmp(image, kFatbin, sizeof(kFatbin)) == 0 ? 0 : kNoBinary;
}
int cuModuleGetFunction(void** function, void*, const char* name) {
  for (const char*& kernel : kernels) {
    if (std::strcmp(kernel, name) == 0) return *function = &kernel, 0;
  }
  return kNotFound;
}
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty,
                   unsigned tz, unsigned shared_bytes, void*, void** arguments, void** extra) {
  const Problem& problem = *static_cast<const Problem*>(arguments[0]);
  const bool flat = y == 1 && z == 1 && ty == 1 && tz == 1 && extra == nullptr;
  if (!flat || contexts_entered == 0 || x == 0) return kInvalidValue;
  if (shared_bytes != problem.levels * sizeof(Level)) return kInvalidValue;
  return run_kernel(*static_cast<const char**>(function), &problem, x, threads);
}

int cuMemAlloc_v2(std::uint64_t* at, std::size_t bytes) {
  *at = reinterpret_cast<std::uint64_t>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  return 0;
}
int cuMemFree_v2(std::uint64_t at) { return std::free(reinterpret_cast<void*>(at)), 0; }
int cuMemsetD8_v2(std::uint64_t at, unsigned char value, std::size_t bytes) {
  return std::memset(reinterpret_cast<void*>(at), value, bytes), 0;
}
int cuMemsetD8Async(std::uint64_t at, unsigned char value, std::size_t bytes, void*) {
  return cuMemsetD8_v2(at, value, bytes);
}
int cuMemcpyHtoD_v2(std::uint64_t to, const void* from, std::size_t bytes) {
  return std::memcpy(reinterpret_cast<void*>(to), from, bytes), 0;
}
int cuMemcpyDtoH_v2(void* to, std::uint64_t from, std::size_t bytes) {
  return std::memcpy(to, reinterpret_cast<void*>(from), bytes), 0;
}
int cuMemcpyDtoDAsync_v2(std::uint64_t to, std::uint64_t from, std::size_t bytes, void*) {
  return cuMemcpyDtoH_v2(reinterpret_cast<void*>(to), from, bytes);
}

using Clock = std::chrono::steady_clock;
int cuEventCreate(void** event, unsigned) { return *event = new Clock::time_point, 0; }
int cuEventRecord(void* event, void*) {
  return *static_cast<Clock::time_point*>(event) = Clock::now(), 0;
}
int cuEventElapsedTime(float* ms, void* first, void* last) {
  *ms = std::chrono::duration<float, std::milli>(*static_cast<Clock::time_point*>(last) -
                                                 *static_cast<Clock::time_point*>(first))
            .count();
  return 0;
}
int cuEventDestroy_v2(void* event) { return delete static_cast<Clock::time_point*>(event), 0; }

}  // extern "C"
