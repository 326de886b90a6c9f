/* Read pages of a file at random, all in memory, and print the nanoseconds that each took: pread_loop FILE READS */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char page[4096];
	struct timespec start, end;
	uint64_t state = 1;
	if (argc != 3)
		return 2;
	int fd = open(argv[1], O_RDONLY);
	off_t pages = lseek(fd, 0, SEEK_END) / 4096;
	long reads = atol(argv[2]);
	if (fd < 0 || pages < 1 || reads < 1)
		return 2;
	for (off_t at = 0; at < pages; at++)
		if (pread(fd, page, 4096, at * 4096) != 4096)
			return 1;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (long i = 0; i < reads; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		if (pread(fd, page, 4096, (off_t)((state >> 33) % pages) * 4096) != 4096)
			return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.1f\n", ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / reads);
	return 0;
}
