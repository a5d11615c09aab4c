/* Generates images with an exported model, by TensorFlow's C API alone. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

#include "arguments.h"
#include "picture.h"
#include "signature.h"

enum { MOST_INPUTS = 6 };

typedef struct {
  TF_Graph *graph;
  TF_Session *session;
  TF_Buffer *meta_graph; /* names of the signatures' tensors */
} Model;

/* What one call of a signature is given. */
typedef struct {
  TF_Output places[MOST_INPUTS];
  TF_Tensor *values[MOST_INPUTS];
  int count;
} Inputs;

static bool check(const TF_Status *status, const char *doing) {
  if (TF_GetCode(status) == TF_OK) return true;
  fprintf(stderr, "generate: %s failed: %s\n", doing, TF_Message(status));
  return false;
}

static bool load(const char *path, Model *model, TF_Status *status) {
  const char *tags[] = {"serve"};
  TF_SessionOptions *options = TF_NewSessionOptions();
  model->graph = TF_NewGraph();
  model->meta_graph = TF_NewBuffer();
  model->session = TF_LoadSessionFromSavedModel(
      options, NULL, path, tags, 1, model->graph, model->meta_graph, status);
  TF_DeleteSessionOptions(options);
  return check(status, "loading the model");
}

static void unload(Model *model, TF_Status *status) {
  if (model->session) {
    TF_CloseSession(model->session, status);
    check(status, "closing the session");
    TF_DeleteSession(model->session, status);
    check(status, "deleting the session");
  }
  TF_DeleteBuffer(model->meta_graph);
  TF_DeleteGraph(model->graph);
}

static TF_Tensor *scalar(TF_DataType type, const void *value) {
  size_t size = TF_DataTypeSize(type);
  TF_Tensor *tensor = TF_AllocateTensor(type, NULL, 0, size);
  if (tensor) memcpy(TF_TensorData(tensor), value, size);
  return tensor;
}

static TF_Tensor *text(const char *value) {
  TF_Tensor *tensor =
      TF_AllocateTensor(TF_STRING, NULL, 0, sizeof(TF_TString));
  if (tensor) {
    TF_TString *string = TF_TensorData(tensor);
    TF_StringInit(string);
    TF_StringCopy(string, value, strlen(value));
  }
  return tensor;
}

static TF_Tensor *integers(const int32_t *values, int64_t count) {
  size_t size = (size_t)count * sizeof *values;
  TF_Tensor *tensor = TF_AllocateTensor(TF_INT32, &count, 1, size);
  if (tensor) memcpy(TF_TensorData(tensor), values, size);
  return tensor;
}

static bool takes(const Model *model, const char *name, TF_Output *place) {
  return find_tensor(model->graph, model->meta_graph, "generate", INPUTS, name,
                     place);
}

/* Gives an input its value, which `inputs` then owns. */
static bool give(const Model *model, Inputs *inputs, const char *name,
                 TF_Tensor *value) {
  if (!value) {
    fputs("generate: out of memory.\n", stderr);
    return false;
  }
  inputs->values[inputs->count] = value;
  if (!takes(model, name, &inputs->places[inputs->count++])) {
    fprintf(stderr,
            "generate: the model has no signature generate with an input %s. "
            "Export it with this version's command.\n",
            name);
    return false;
  }
  return true;
}

/* Refuses what this model cannot be told, and what it must be. */
static bool fits(const Model *model, const Arguments *arguments) {
  TF_Output place;
  bool takes_labels = takes(model, "labels", &place);
  if (takes_labels != arguments->has_labels) {
    fprintf(stderr, "generate: the model was trained %s classes. %s\n",
            takes_labels ? "with" : "without",
            takes_labels ? "Pass --labels=0,1,2, one for each image."
                         : "Pass --count instead of --labels.");
    return false;
  }
  if (arguments->has_guidance && !takes(model, "guidance_scale", &place)) {
    fputs("generate: the model cannot be guided. Leave --guidance out, or "
          "train one with --label_dropout.\n",
          stderr);
    return false;
  }
  return true;
}

static bool give_all(const Model *model, const Arguments *arguments,
                     Inputs *inputs) {
  TF_Output place;
  bool well =
      give(model, inputs, "num_images",
           scalar(TF_INT32, &arguments->num_images)) &&
      give(model, inputs, "num_steps",
           scalar(TF_INT32, &arguments->num_steps)) &&
      give(model, inputs, "seed", scalar(TF_INT64, &arguments->seed)) &&
      give(model, inputs, "sampler", text(arguments->sampler));
  if (well && arguments->has_labels) {
    well = give(model, inputs, "labels",
                integers(arguments->labels, arguments->num_images));
  }
  if (well && takes(model, "guidance_scale", &place)) {
    well = give(model, inputs, "guidance_scale",
                scalar(TF_FLOAT, &arguments->guidance_scale));
  }
  return well;
}

static void free_all(Inputs *inputs) {
  for (int i = 0; i < inputs->count; i++) {
    if (TF_TensorType(inputs->values[i]) == TF_STRING) {
      TF_StringDealloc(TF_TensorData(inputs->values[i]));
    }
    TF_DeleteTensor(inputs->values[i]);
  }
}

static bool write(const TF_Tensor *images, const char *path) {
  int64_t shape[4];
  if (TF_TensorType(images) != TF_FLOAT || TF_NumDims(images) != 4) {
    fputs("generate: images must be float32 of four dimensions.\n", stderr);
    return false;
  }
  for (int i = 0; i < 4; i++) shape[i] = TF_Dim(images, i);
  return write_picture(path, TF_TensorData(images), shape);
}

static bool generate(const Model *model, const Arguments *arguments,
                     TF_Status *status) {
  Inputs inputs = {.count = 0};
  TF_Output place;
  TF_Tensor *images = NULL;
  bool well = fits(model, arguments) && give_all(model, arguments, &inputs);
  if (well && !find_tensor(model->graph, model->meta_graph, "generate",
                           OUTPUTS, "images", &place)) {
    fputs("generate: the signature has no output images.\n", stderr);
    well = false;
  }
  if (well) {
    TF_SessionRun(model->session, NULL, inputs.places, inputs.values,
                  inputs.count, &place, &images, 1, NULL, 0, NULL, status);
    well = check(status, "generating") && write(images, arguments->out);
  }
  if (images) TF_DeleteTensor(images);
  free_all(&inputs);
  return well;
}

int main(int argc, char **argv) {
  Arguments arguments;
  if (!read_arguments(argc, argv, &arguments)) return 2;
  TF_Status *status = TF_NewStatus();
  Model model = {0};
  bool well = load(arguments.model, &model, status) &&
              generate(&model, &arguments, status);
  unload(&model, status);
  TF_DeleteStatus(status);
  return well ? 0 : 1;
}
