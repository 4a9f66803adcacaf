/* Wakes fifty times, every five milliseconds, and counts how often it was too late for the next. */
#include <stdio.h>
#include <time.h>

#define BEAT 5000000

int main(void)
{
    struct timespec at, now;
    int lost = 0;
    clock_gettime(CLOCK_MONOTONIC, &at);
    for (int beat = 0; beat < 50; beat++) {
        at.tv_nsec += BEAT;
        if (at.tv_nsec >= 1000000000) {
            at.tv_nsec -= 1000000000;
            at.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        long late = (now.tv_sec - at.tv_sec) * 1000000000 + now.tv_nsec - at.tv_nsec;
        lost += late >= BEAT;
    }
    printf("50 beats, %d lost\n", lost);
    return lost;
}
