// libtorch's ProcessGroupGloo.hpp includes this file of Gloo, which libtorch's wheel does not bring along. Nothing of it
// is used: the class only holds shared pointers to what context.h, rendezvous/store.h and transport/device.h declare.
#pragma once
