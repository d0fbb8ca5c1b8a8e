// SPDX-License-Identifier: MIT
// The one copy of volk, which finds the Vulkan loader at run time: a machine without one gets a
// clear error instead of a program that does not start. Where volk is installed as a library, this
// is empty.
#ifndef VOLK_IS_LIBRARY
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define VK_NO_PROTOTYPES
#define VOLK_IMPLEMENTATION
#include <volk.h>
#endif
typedef int vk_volk_is_not_empty; // ISO C wants a declaration in each file
