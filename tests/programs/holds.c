/* Has three threads that wait, and two mappings; says so, and ends with its standard input. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *wait_for_it(void *nothing)
{
    pthread_mutex_lock(&mutex);
    return nothing;
}

int main(void)
{
    pthread_t threads[3];
    char byte;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, wait_for_it, NULL))
            return 1;
    for (long size = 65536; size <= 4 << 20; size *= 64) {
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return 2;
        memset(memory, 1, size);
    }
    puts("ready");
    fflush(stdout);
    return read(0, &byte, 1) == 0 ? 0 : 3;
}
