#include "picture.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static int to_byte(float pixel) {
  float bounded = fminf(fmaxf(pixel, -1.0f), 1.0f); /* NaN becomes -1 */
  return (int)nearbyintf((bounded + 1.0f) * 127.5f);
}

bool write_picture(const char *path, const float *images,
                   const int64_t shape[4]) {
  int64_t count = shape[0], height = shape[1], width = shape[2];
  int64_t channels = shape[3];
  if (channels != 1 && channels != 3) {
    fprintf(stderr,
            "generate: PPM files have 1 or 3 channels. Received: images of "
            "%lld channels.\n",
            (long long)channels);
    return false;
  }
  FILE *file = fopen(path, "wb");
  if (!file) {
    fprintf(stderr, "generate: cannot write %s: %s.\n", path, strerror(errno));
    return false;
  }
  fprintf(file, "P%d\n%lld %lld\n255\n", channels == 1 ? 5 : 6,
          (long long)(count * width), (long long)height);
  for (int64_t row = 0; row < height; row++) {
    for (int64_t k = 0; k < count; k++) {
      const float *pixels = images + (k * height + row) * width * channels;
      for (int64_t i = 0; i < width * channels; i++) {
        fputc(to_byte(pixels[i]), file);
      }
    }
  }
  bool failed = ferror(file);
  failed = fclose(file) || failed; /* a full disk may show only now */
  if (failed) {
    fprintf(stderr, "generate: %s was not written whole: %s.\n", path,
            strerror(errno));
  }
  return !failed;
}
