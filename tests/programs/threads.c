/* Threads: their beginning and end, locks, conditions, time, memory of their own. */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

static __thread long own = 5;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static long counter;

static void *identity(void *argument)
{
    CHECK(own == 5 && gettid() != getpid());
    own = (long)argument;
    sched_yield();
    CHECK(own == (long)argument);
    return (void *)(own * 2);
}

static void beginnings(void)
{
    pthread_t threads[8];
    for (long i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], NULL, identity, (void *)(i + 10)) == 0);
    for (long i = 0; i < 8; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)(2 * (i + 10)));
    }
    CHECK(own == 5);
}

static volatile int unguarded;

static void *contend(void *argument)
{
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        long before = counter;
        CHECK(!unguarded);
        unguarded = 1;
        if (i % 1000 == 0)
            sched_yield();
        counter = before + 1;
        unguarded = 0;
        pthread_mutex_unlock(&mutex);
    }
    return argument;
}

static void contention(void)
{
    pthread_t threads[4];
    counter = 0;
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, contend, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(counter == 80000);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void *answer(void *argument)
{
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        while (counter % 2 == 0)
            pthread_cond_wait(&condition, &mutex);
        counter++;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return argument;
}

static void conditions(void)
{
    pthread_t thread;
    counter = 0;
    CHECK(pthread_create(&thread, NULL, answer, NULL) == 0);
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_cond_broadcast(&condition);
        while (counter % 2 == 1)
            pthread_cond_wait(&condition, &mutex);
        pthread_mutex_unlock(&mutex);
    }
    pthread_join(thread, NULL);
    CHECK(counter == 1000);

    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 30000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    double before = now();
    pthread_mutex_lock(&mutex);
    int error = 0;
    while (error == 0)
        error = pthread_cond_timedwait(&condition, &mutex, &until);
    pthread_mutex_unlock(&mutex);
    CHECK(error == ETIMEDOUT && now() - before >= 0.03 && now() - before < 10);
}

static void *sleeps(void *argument)
{
    double before = now();
    usleep((long)argument);
    CHECK(now() - before >= (long)argument / 1e6 && now() - before < 10);
    return NULL;
}

/* A thread that computes does not keep the time from the others. */
static void *computes(void *argument)
{
    double until = now() + 0.1;
    while (now() < until)
        (*(volatile long *)argument)++;
    return NULL;
}

static void sleeping(void)
{
    pthread_t threads[6];
    long work = 0;
    CHECK(pthread_create(&threads[5], NULL, computes, &work) == 0);
    for (long i = 0; i < 5; i++)
        CHECK(pthread_create(&threads[i], NULL, sleeps, (void *)((5 - i) * 10000)) == 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    CHECK(work > 0);
}

/* Vector registers are each thread's own, and a new thread begins with its parent's. */
static void *vectors(void *argument)
{
    double from = (long)argument, sum = from;
    for (int i = 0; i < 2000; i++) {
        sum += 1.0;
        if (i % 100 == 0)
            sched_yield();
    }
    CHECK(sum == from + 2000);
    return NULL;
}

static void registers(void)
{
    pthread_t threads[3];
    for (long i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, vectors, (void *)(i * 1000)) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void *nothing(void *argument)
{
    return argument;
}

/* Its maker knows what is left of the memory: as much as before. */
static void again(int times)
{
    for (int i = 0; i < times; i++) {
        pthread_t thread;
        int error = pthread_create(&thread, NULL, nothing, NULL);
        if (error) {
            check(0, strerror(error), i);
            return;
        }
        pthread_join(thread, NULL);
    }
    CHECK(1);
}

static volatile int stop;

static void *stays(void *argument)
{
    pthread_mutex_lock(&mutex);
    while (!stop)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    return argument;
}

/* As many as there can be; then the same number again. */
static int fill(void)
{
    static pthread_t threads[4000];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    int count = 0, error = 0;
    stop = 0;
    while (count < 4000 && !(error = pthread_create(&threads[count], &attributes, stays, NULL)))
        count++;
    CHECK(error == EAGAIN);
    pthread_mutex_lock(&mutex);
    stop = 1;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < count; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return count;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "again")) {
        again(10000);
        return report();
    }
    if (argc > 1 && !strcmp(argv[1], "fill")) {
        int first = fill(), second = fill(), third = fill();
        printf("%d threads, then %d, then %d\n", first, second, third);
        CHECK(first > 4 && second == third);
        return report();
    }
    beginnings();
    contention();
    conditions();
    sleeping();
    registers();
    again(100);
    return report();
}
