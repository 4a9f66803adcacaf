/* Does what no program should: its argument says what. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int deeper(volatile char *above)
{
    volatile char here[4096];
    here[0] = above[0];
    return above[0] ? deeper(here) + here[0] : 0;
}

static void *sleeper(void *unused)
{
    (void)unused;
    pause();
    return NULL;
}

static void *reader(void *unused)
{
    int ends[2];
    char byte;
    (void)unused;
    /* Nothing comes. */
    if (pipe(ends) == 0)
        read(ends[0], &byte, 1);
    return NULL;
}

static void hog(void)
{
    size_t pages = 0;
    for (char *page; (page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                  -1, 0)) != MAP_FAILED; pages += 16)
        memset(page, 1, 65536);
    printf("%s after %d pages\n", errno == ENOMEM ? "no memory" : strerror(errno), pages > 16);
    size_t bytes = 0;
    while (malloc(1000))
        bytes += 1000;
    printf("%s in the heap\n", errno == ENOMEM ? "no memory" : strerror(errno));
}

static void bomb(void)
{
    pthread_attr_t small;
    pthread_t thread;
    int count = 0, error;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    while ((error = pthread_create(&thread, &small, sleeper, NULL)) == 0)
        count++;
    printf("%s after %d threads\n", error == EAGAIN ? "no more" : strerror(error), count > 2);
}

static void invented(void)
{
    int wrong = 0;
    for (long number = 600; number < 3000; number++)
        wrong += syscall(number, number, -1L, number << 40) != -1 || errno != ENOSYS;
    for (long number = -1; number > -3000; number--)
        wrong += syscall(number, number, -1L, number << 40) != -1 || errno != ENOSYS;
    wrong += syscall(INT64_MIN) != -1 || errno != ENOSYS;
    printf("%d wrong answers\n", wrong);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    volatile char *none = NULL;
    pthread_t thread;
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(what, "null"))
        *none = 1;
    else if (!strcmp(what, "stack"))
        deeper("deep");
    else if (!strcmp(what, "jump"))
        ((void (*)(void))0x123456789abcULL)();
    else if (!strcmp(what, "loop"))
        for (;;)
            __asm__ volatile("");
    else if (!strcmp(what, "hog"))
        hog();
    else if (!strcmp(what, "bomb"))
        bomb();
    else if (!strcmp(what, "flood"))
        for (;;)
            puts("There is always one more thing to say, and nobody who wants to hear it.");
    else if (!strcmp(what, "invented"))
        invented();
    else if (!strcmp(what, "halfway")) {
        /* One thread is in a call that never ends when the other one dies. */
        pthread_create(&thread, NULL, reader, NULL);
        usleep(1000);
        *none = 1;
    }
    return 0;
}
