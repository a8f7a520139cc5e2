// The process group: c10d's TCPStore and ProcessGroupGloo, which are in libtorch_cpu and which tch does not bind.
//
// Every function returns 0 on success. On failure it returns 1 and writes at most `capacity` bytes of the error's first
// line, its closing zero included.

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <c10/core/Stream.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <chrono>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

namespace {

using Work = c10::intrusive_ptr<c10d::Work>;

struct Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
};

template <typename F>
int caught(char* error, size_t capacity, F body) {
  try {
    body();
    return 0;
  } catch (const std::exception& e) {
    const char* text = e.what();
    size_t length = std::strcspn(text, "\n");
    if (length >= capacity) length = capacity - 1;
    std::memcpy(error, text, length);
    error[length] = 0;
  } catch (...) {
    std::strncpy(error, "an unknown C++ exception", capacity - 1);
    error[capacity - 1] = 0;
  }
  return 1;
}

} // namespace

extern "C" {

// Meets the other processes at `host`:`port`, where the process with `serves` != 0 runs the store, and connects to each of
// them. Keys in the store begin with `prefix`. Waits `join_ms` at most for the others.
int metareward_group_join(
    const char* host,
    uint16_t port,
    int serves,
    const char* prefix,
    int rank,
    int size,
    int64_t join_ms,
    Group** out,
    char* error,
    size_t capacity) {
  return caught(error, capacity, [&] {
    auto patience = std::chrono::milliseconds(join_ms);
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serves != 0;
    options.waitWorkers = false;
    options.timeout = patience;
    auto tcp = c10::make_intrusive<c10d::TCPStore>(host, options);
    c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::PrefixStore>(prefix, tcp);
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
        store, rank, size, c10d::ProcessGroupGloo::Options::create_default(patience));
    *out = new Group{std::move(store), std::move(gloo)};
  });
}

void metareward_group_leave(Group* group) {
  try {
    delete group;
  } catch (...) {
    // The connections are gone, which is what was wanted.
  }
}

// Each of the next functions but `forget` starts an operation and gives a handle on it for metareward_group_wait. The tensors must be on the
// CPU and contiguous; the handle keeps them alive.

int metareward_group_all_reduce(
    Group* group, const at::Tensor* tensor, int maximum, int64_t timeout_ms, Work** out, char* error, size_t capacity) {
  return caught(error, capacity, [&] {
    std::vector<at::Tensor> tensors{*tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = maximum != 0 ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *out = new Work(group->gloo->allreduce(tensors, options));
  });
}

int metareward_group_broadcast(
    Group* group, const at::Tensor* tensor, int root, int64_t timeout_ms, Work** out, char* error, size_t capacity) {
  return caught(error, capacity, [&] {
    std::vector<at::Tensor> tensors{*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *out = new Work(group->gloo->broadcast(tensors, options));
  });
}

// The sum comes to the process called `root`; what the others' tensors hold afterwards is not said.
int metareward_group_reduce(
    Group* group, const at::Tensor* tensor, int root, int64_t timeout_ms, Work** out, char* error, size_t capacity) {
  return caught(error, capacity, [&] {
    std::vector<at::Tensor> tensors{*tensor};
    c10d::ReduceOptions options;
    options.rootRank = root;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *out = new Work(group->gloo->reduce(tensors, options));
  });
}

// `full` holds one equal part per process, `part` is this process's.
int metareward_group_reduce_scatter(
    Group* group,
    const at::Tensor* full,
    const at::Tensor* part,
    int64_t timeout_ms,
    Work** out,
    char* error,
    size_t capacity) {
  return caught(error, capacity, [&] {
    at::Tensor input = *full;
    at::Tensor output = *part;
    c10d::ReduceScatterOptions options;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *out = new Work(group->gloo->_reduce_scatter_base(output, input, options));
  });
}

int metareward_group_all_gather(
    Group* group,
    const at::Tensor* part,
    const at::Tensor* full,
    int64_t timeout_ms,
    Work** out,
    char* error,
    size_t capacity) {
  return caught(error, capacity, [&] {
    at::Tensor input = *part;
    at::Tensor output = *full;
    c10d::AllgatherOptions options;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *out = new Work(group->gloo->_allgather_base(output, input, options));
  });
}

// Frees an operation's handle without waiting for it.
void metareward_group_forget(Work* work) {
  try {
    delete work;
  } catch (...) {
    // Nobody asks any more what came of it.
  }
}

// One process sends, the one called `peer` receives the same number of bytes. `tag` keeps messages apart.
int metareward_group_send(
    Group* group, const at::Tensor* tensor, int peer, int tag, Work** out, char* error, size_t capacity) {
  return caught(error, capacity, [&] {
    std::vector<at::Tensor> tensors{*tensor};
    *out = new Work(group->gloo->send(tensors, peer, tag));
  });
}

int metareward_group_receive(
    Group* group, const at::Tensor* tensor, int peer, int tag, Work** out, char* error, size_t capacity) {
  return caught(error, capacity, [&] {
    std::vector<at::Tensor> tensors{*tensor};
    *out = new Work(group->gloo->recv(tensors, peer, tag));
  });
}

// Waits for an operation, `timeout_ms` at most where the operation has no limit of its own, and frees its handle, whatever comes of it.
int metareward_group_wait(Work* work, int64_t timeout_ms, char* error, size_t capacity) {
  int failed = caught(error, capacity, [&] {
    bool done = (*work)->wait(std::chrono::milliseconds(timeout_ms));
    TORCH_CHECK(done, "the operation was given up");
  });
  metareward_group_forget(work);
  return failed;
}

// The CUDA stream that libtorch's operations on GPU `device` are put on by this thread: a cudaStream_t.
int metareward_current_stream(int device, void** out, char* error, size_t capacity) {
  return caught(error, capacity, [&] {
    auto place = c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device));
    *out = c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA)->getStream(place).native_handle();
  });
}
}
