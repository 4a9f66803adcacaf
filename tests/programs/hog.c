/* Takes all memory and all threads that it can get, and lets all of them work for half a second. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static void *work(void *nothing)
{
    for (;;)
        __asm__ volatile("" ::: "memory");
    return nothing;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(void)
{
    double until = now() + 0.5;
    int threads = 0, error;
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16 << 10);
    while ((error = pthread_create(&thread, &small, work, NULL)) == 0)
        threads++;
    printf("%d threads more: %s\n", threads, error == EAGAIN ? "EAGAIN" : strerror(error));
    long pages = 0;
    for (;;) {
        char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            break;
        *page = 1;
        pages++;
    }
    error = errno;
    printf("all memory, more than 400 pages (%d): %s\n", pages > 400,
           error == ENOMEM ? "ENOMEM" : strerror(error));
    fflush(stdout);
    while (now() < until)
        ;
    return 0;
}
