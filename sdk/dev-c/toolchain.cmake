# What CMake must know of the target; it reads the file that CMAKE_TOOLCHAIN_FILE names.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER /opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-gcc)
set(CMAKE_CXX_COMPILER /opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-g++)
# Programs are the stage's own, libraries and headers are the target's.
set(CMAKE_FIND_ROOT_PATH /opt/kos/sdk/usr/lib/aarch64-linux-musl)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
