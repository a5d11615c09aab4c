/* Images in [-1, 1] as a picture file. */
#ifndef PICTURE_H
#define PICTURE_H

#include <stdbool.h>
#include <stdint.h>

/* Writes images (count, height, width, channels), side by side, as a PPM file,
   or as a PGM file if they have one channel. What fails is printed to stderr.
   Returns whether all is written. */
bool write_picture(const char *path, const float *images,
                   const int64_t shape[4]);

#endif
