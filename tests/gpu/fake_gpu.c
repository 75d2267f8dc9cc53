// A GPU that computes nothing, in the place of CUDA's runtime, driver and cuBLAS.
//
// Memory is the host's and copies are made, so torch allocates, checks devices and types, picks kernels and copies as on
// an H100; kernels are not executed. The other functions that torch calls return success (fake_gpu.py).

#define _GNU_SOURCE
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MEMORY 85000000000  // bytes, of an H100

// Read by the tests.
long copies_to_host, pageable_copies, bytes_held, most_bytes_held;

static const size_t PAGE = 4096;  // before a block of memory, with its size

static char *pinned;  // all pinned memory, which nobody frees
static size_t num_pinned;
static const size_t MAX_PINNED = (size_t)1 << 36;

static void *reserved(size_t size) {
  void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return address == MAP_FAILED ? NULL : address;
}

static void *handle(void) {
  static char any[1];
  return any;
}

// The device

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
  memset(found, 0, sizeof *found);
  strcpy(found->name, "fake H100");
  found->totalGlobalMem = MEMORY;
  found->major = 9;
  found->multiProcessorCount = 132;
  found->warpSize = 32;
  found->maxThreadsPerBlock = 1024;
  found->maxThreadsPerMultiProcessor = 2048;
  found->maxBlocksPerMultiProcessor = 32;
  found->regsPerBlock = found->regsPerMultiprocessor = 65536;
  found->sharedMemPerBlock = 49152;
  found->sharedMemPerBlockOptin = 232448;
  found->sharedMemPerMultiprocessor = 233472;
  found->l2CacheSize = 52428800;
  for (int axis = 0; axis < 3; axis++) {
    found->maxThreadsDim[axis] = axis < 2 ? 1024 : 64;
    found->maxGridSize[axis] = axis ? 65535 : 2147483647;
  }
  return cudaSuccess;
}

static int attribute(int name) {
  struct cudaDeviceProp device;
  cudaGetDeviceProperties(&device, 0);
  switch (name) {
    case cudaDevAttrComputeCapabilityMajor: return device.major;
    case cudaDevAttrComputeCapabilityMinor: return device.minor;
    case cudaDevAttrMultiProcessorCount: return device.multiProcessorCount;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: return device.sharedMemPerBlockOptin;
    case cudaDevAttrWarpSize: return device.warpSize;
    default: return device.maxThreadsPerBlock;
  }
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr name, int device) {
  *value = attribute(name);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDA_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }

cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
  *left = *total = MEMORY;
  return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error) { return "no error of this GPU"; }

const char *cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }

// Memory

cudaError_t cudaMalloc(void **address, size_t size) {
  char *block = reserved(size + PAGE);
  if (block == NULL) return cudaErrorMemoryAllocation;
  *(size_t *)block = size + PAGE;
  *address = block + PAGE;
  bytes_held += size;
  if (bytes_held > most_bytes_held) most_bytes_held = bytes_held;
  return cudaSuccess;
}

cudaError_t cudaFree(void *address) {
  if (address == NULL) return cudaSuccess;
  char *block = (char *)address - PAGE;
  bytes_held -= *(size_t *)block - PAGE;
  munmap(block, *(size_t *)block);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **address, size_t size, unsigned flags) {
  if (pinned == NULL) pinned = reserved(MAX_PINNED);
  size = (size + 511) / 512 * 512;
  if (pinned == NULL || num_pinned + size > MAX_PINNED) return cudaErrorMemoryAllocation;
  *address = pinned + num_pinned;
  num_pinned += size;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *address) {
  memset(found, 0, sizeof *found);
  int is_pinned = pinned != NULL && (char *)address >= pinned && (char *)address < pinned + MAX_PINNED;
  found->type = is_pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream) {
  struct cudaPointerAttributes source;
  cudaPointerGetAttributes(&source, from);
  copies_to_host += kind == cudaMemcpyDeviceToHost;
  pageable_copies += kind == cudaMemcpyHostToDevice && source.type != cudaMemoryTypeHost;
  memcpy(to, from, size);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, size, kind, NULL);
}

// Streams, events and kernels

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  *least = *greatest = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
  *stream = malloc(1);  // its address tells streams apart
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  *event = handle();
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = 1;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *kernel) {
  memset(found, 0, sizeof *found);
  found->maxThreadsPerBlock = 1024;
  found->numRegs = 32;
  found->ptxVersion = found->binaryVersion = 90;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int *count, const void *kernel, int threads, size_t shared, unsigned flags) {
  *count = 2;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *count, const void *kernel, int threads, size_t shared) {
  *count = 2;
  return cudaSuccess;
}

// The driver, which torch asks for contexts, and Triton for its kernels

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *is_active) {
  *flags = 0;
  *is_active = 1;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  *context = handle();
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) { return cuCtxGetCurrent(context); }

CUresult cuDeviceGet(CUdevice *device, int number) {
  *device = 0;
  return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute name, CUdevice device) {
  *value = attribute(name);
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  *module = handle();
  return CUDA_SUCCESS;
}

CUresult cuModuleLoad(CUmodule *module, const char *path) { return cuModuleLoadData(module, path); }

CUresult cuModuleGetFunction(CUfunction *kernel, CUmodule module, const char *name) {
  *kernel = handle();
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute name, CUfunction kernel) {
  *value = name == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *value, CUpointer_attribute name, CUdeviceptr address) {
  *(CUdeviceptr *)value = address;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetLimit(size_t *value, CUlimit limit) {
  *value = 0;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
  *text = "no error of this GPU";
  return CUDA_SUCCESS;
}

// cuBLAS, whose header torch does not bring

int cublasCreate_v2(void **found) {
  *found = handle();
  return 0;
}

int cublasLtCreate(void **found) { return cublasCreate_v2(found); }

int cublasGetMathMode(void *library, int *mode) {
  *mode = 0;
  return 0;
}

int cublasGetPointerMode_v2(void *library, int *mode) { return cublasGetMathMode(library, mode); }

int cublasLtMatmulAlgoGetHeuristic(
    void *library, void *product, void *a, void *b, void *c, void *d, void *preference, int most, void *found, int *count) {
  memset(found, 0, 96);  // cublasLtMatmulHeuristicResult_t
  *count = 1;
  return 0;
}

const char *cublasGetStatusString(int status) { return "no error of this GPU"; }
