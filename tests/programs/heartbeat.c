/* Beats so many times, every so many milliseconds, and says how many beats it has lost: those that
 * it was too late for when the next one was due. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - start->tv_sec) * 1000000000L + now.tv_nsec - start->tv_nsec;
}

int main(int argc, char **argv)
{
    long beats = argc > 1 ? atol(argv[1]) : 1, period = argc > 2 ? atol(argv[2]) * 1000000 : 1;
    long lost = 0;
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long beat = 1; beat <= beats; beat++) {
        long due = beat * period, at = start.tv_nsec + due;
        struct timespec when = { start.tv_sec + at / 1000000000L, at % 1000000000L };
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
        lost += since(&start) - due >= period;
    }
    printf("%ld beats, %ld lost\n", beats, lost);
    return lost != 0;
}
