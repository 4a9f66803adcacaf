/* Memory: the heap, and what libkos makes of the handed untypeds. A word as argument asks for
 * something that ends the program. */
#define _GNU_SOURCE
#include "check.h"
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE 4096
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

static char *map(size_t length, int protection)
{
    return mmap(NULL, length, protection, ANONYMOUS, -1, 0);
}

static int is(const char *bytes, int value, size_t length)
{
    while (length--)
        if (*bytes++ != value)
            return 0;
    return 1;
}

static void heap(void)
{
    char *start = (char *)syscall(SYS_brk, 0), *end = start + 3 * PAGE;
    CHECK(start && (char *)syscall(SYS_brk, end) == end && is(start, 0, 3 * PAGE));
    memset(start, 7, 3 * PAGE);
    CHECK((char *)syscall(SYS_brk, start + PAGE) == start + PAGE);
    CHECK((char *)syscall(SYS_brk, end) == end && is(start + PAGE, 0, 2 * PAGE));
    CHECK(is(start, 7, PAGE));
    CHECK((char *)syscall(SYS_brk, start + (1L << 32)) == end);
}

static void mappings(void)
{
    char *a = map(10 * PAGE, PROT_READ | PROT_WRITE);
    CHECK(a != MAP_FAILED && is(a, 0, 10 * PAGE));
    memset(a, 1, 10 * PAGE);
    CHECK(munmap(a + 4 * PAGE, 2 * PAGE) == 0);
    char *b = map(2 * PAGE, PROT_READ | PROT_WRITE);
    CHECK(b == a + 4 * PAGE && is(b, 0, 2 * PAGE) && is(a, 1, 4 * PAGE));
    CHECK(mmap(a, PAGE, PROT_READ, ANONYMOUS | MAP_FIXED, -1, 0) == a && is(a, 0, PAGE));
    CHECK(mprotect(a + PAGE, PAGE, PROT_NONE) == 0);
    CHECK(mprotect(a + PAGE, PAGE, PROT_READ) == 0 && is(a + PAGE, 1, PAGE));
    CHECK(mprotect(a, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
    a[0] = 5;
    CHECK(madvise(a, PAGE, MADV_DONTNEED) == 0 && a[0] == 0);
    FAILS(EINVAL, munmap(a + 1, PAGE));
    FAILS(EINVAL, (long)map(0, PROT_READ));
    FAILS(ENOMEM, mprotect(a + 64 * PAGE, PAGE, PROT_READ));
    FAILS(ENOMEM, (long)map(1L << 40, PROT_READ));
    FAILS(ENOMEM, (long)map(1L << 34, PROT_READ | PROT_WRITE));
    FAILS(EBADF, (long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 77, 0));
    memset(a, 9, PAGE);
    char *moved = mremap(a, 10 * PAGE, 40 * PAGE, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && is(moved, 9, PAGE) && is(moved + 10 * PAGE, 0, 30 * PAGE));
    CHECK(munmap(moved, 40 * PAGE) == 0);
    /* Reserving costs nothing; using part of it does. */
    char *large = map(1L << 34, PROT_NONE), *part = large + (1L << 33);
    CHECK(large != MAP_FAILED && mprotect(part, PAGE, PROT_READ | PROT_WRITE) == 0);
    memset(part, 3, PAGE);
    CHECK(munmap(large, 1L << 34) == 0);
}

/* All that there is, again and again: nothing is lost, and nothing shines through. */
static void everything(void)
{
    size_t most = 0;
    char *a_page;
    for (int round = 0; round < 3; round++) {
        char *chunks[4096];
        size_t count = 0;
        while (count < 4096 && (chunks[count] = map(PAGE, PROT_READ | PROT_WRITE)) != MAP_FAILED) {
            CHECK(is(chunks[count], 0, PAGE));
            memset(chunks[count++], round + 1, PAGE);
        }
        CHECK(errno == ENOMEM && count > 500);
        CHECK(round == 0 || count == most);
        most = count;
        while (count)
            munmap(chunks[--count], PAGE);
    }
    char *all = map(most * PAGE, PROT_READ | PROT_WRITE);
    CHECK(all != MAP_FAILED && is(all, 0, most * PAGE));
    FAILS(ENOMEM, (long)map(PAGE, PROT_READ));
    CHECK(munmap(all, most * PAGE) == 0);
    FAILS(ENOMEM, (long)map((most + 1) * PAGE, PROT_READ));
    a_page = map(PAGE, PROT_READ);
    CHECK(a_page != MAP_FAILED && munmap(a_page, PAGE) == 0);
}

static void allocating(void)
{
    static char *blocks[64];
    uint64_t random = 1;
    for (int step = 0; step < 20000; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        int slot = random >> 58;
        size_t size = (random >> 40) % ((random >> 33) % 16 ? 500 : 30000);
        if (blocks[slot])
            CHECK(is(blocks[slot], slot, 8));
        blocks[slot] = realloc(blocks[slot], size + 8);
        memset(blocks[slot], slot, size + 8);
    }
}

int main(int argc, char **argv)
{
    volatile char *page = map(PAGE, PROT_READ);
    if (argc > 1 && !strcmp(argv[1], "write-what-is-read-only"))
        *page = 1;
    if (argc > 1 && !strcmp(argv[1], "read-what-is-unmapped")) {
        munmap((void *)page, PAGE);
        printf("%d\n", *page);
    }
    if (argc > 1 && !strcmp(argv[1], "read-what-is-protected")) {
        mprotect((void *)page, PAGE, PROT_NONE);
        printf("%d\n", *page);
    }
    if (argc > 1 && !strcmp(argv[1], "run-what-is-data"))
        ((void (*)(void))page)();
    munmap((void *)page, PAGE);
    heap();
    mappings();
    everything();
    allocating();
    return report();
}
