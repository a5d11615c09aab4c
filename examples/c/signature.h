/* Where in a SavedModel's graph the inputs and outputs of a signature are.

   A SavedModel tells so in its MetaGraphDef, a protocol buffer that TensorFlow
   hands over as bytes. This reads the few fields that are needed:

     MetaGraphDef.signature_def = 5: map<string, SignatureDef>
     SignatureDef.inputs = 1, outputs = 2: map<string, TensorInfo>
     TensorInfo.name = 1: "operation:output" */
#ifndef SIGNATURE_H
#define SIGNATURE_H

#include <stdbool.h>
#include <tensorflow/c/c_api.h>

enum { INPUTS = 1, OUTPUTS = 2 };

/* Finds the tensor that a signature calls `name` among its INPUTS or OUTPUTS.
   Returns false if it has none of that name. */
bool find_tensor(TF_Graph *graph, const TF_Buffer *meta_graph,
                 const char *signature, int direction, const char *name,
                 TF_Output *tensor);

#endif
