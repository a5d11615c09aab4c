/* What the command line asks for. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOST_IMAGES = 256 };

typedef struct {
  const char *model;   /* the folder saved_model */
  const char *out;     /* picture to write */
  const char *sampler; /* a name of the manifest */
  int64_t seed;
  int32_t num_steps;
  int32_t num_images;
  int32_t labels[MOST_IMAGES]; /* num_images of them */
  bool has_labels;
  float guidance_scale;
  bool has_guidance;
} Arguments;

/* Reads the command line into *arguments. What is wrong is printed to stderr,
   by name. Returns whether all is well. */
bool read_arguments(int argc, char **argv, Arguments *arguments);

#endif
