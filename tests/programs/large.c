/* Mappings of many megabytes: large frames, split as soon as part of them is changed. */
#define _GNU_SOURCE
#include "check.h"
#include <sys/mman.h>

#define PAGE 4096L
#define LARGE (512 * PAGE)

static long *map(long length, int protection)
{
    return mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Each page holds its number, from `page` to `end`. */
static int holds(long *memory, long page, long end)
{
    for (; page < end; page++)
        if (memory[page * 512] != page || memory[page * 512 + 511] != 0)
            return 0;
    return 1;
}

int main(void)
{
    for (int round = 0; round < 3; round++) {
        long pages = 90 * 512;
        long *memory = map(pages * PAGE, PROT_READ | PROT_WRITE);
        CHECK(memory != MAP_FAILED && (long)memory % LARGE == 0);
        if (memory == MAP_FAILED)
            return report();
        for (long page = 0; page < pages; page++) {
            CHECK(memory[page * 512] == 0);
            memory[page * 512] = page;
        }
        CHECK(mprotect(memory + 700 * 512, PAGE, PROT_READ) == 0);
        CHECK(holds(memory, 0, pages));
        CHECK(munmap(memory + 2000 * 512, 10 * PAGE) == 0);
        CHECK(holds(memory, 0, 2000) && holds(memory, 2010, pages));
        long *hole = map(10 * PAGE, PROT_READ | PROT_WRITE);
        CHECK(hole == memory + 2000 * 512 && hole[0] == 0);
        CHECK(mprotect(memory, 4 * LARGE, PROT_NONE) == 0);
        CHECK(mprotect(memory, 4 * LARGE, PROT_READ) == 0 && holds(memory, 0, 2000));
        CHECK(madvise(memory + 5 * LARGE / 8, LARGE, MADV_DONTNEED) == 0);
        CHECK(memory[5 * LARGE / 8] == 0 && holds(memory, 6 * 512, pages));
        CHECK(munmap(memory, pages * PAGE) == 0);
    }
    /* What large frames were made of makes small ones, too. */
    long count = 0;
    for (long *page; (page = map(PAGE, PROT_READ | PROT_WRITE)) != MAP_FAILED; count++) {
        CHECK(page[0] == 0 && page[511] == 0);
        page[0] = -1;
    }
    CHECK(count > 90 * 512);
    return report();
}
