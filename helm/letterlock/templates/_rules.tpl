{{/*
The operator's rights: each rule is a request that it makes. operator/rbac.yaml has the same, and a test compares.
*/}}

{{/* In every served namespace. */}}
{{- define "letterlock.namespacedRules" -}}
# Resources that users write; of these the operator makes only the system CA list.
- apiGroups: [letterlock.dev]
  resources: [mailgateways, certificates, listeners, destinationcontrols, calists]
  verbs: [get, list, watch]
- apiGroups: [letterlock.dev]
  resources: [calists]
  verbs: [create]
- apiGroups: [letterlock.dev]
  resources:
    - mailgateways/status
    - certificates/status
    - listeners/status
    - destinationcontrols/status
    - calists/status
  verbs: [patch]
# Keys are created and replaced, and deleted when their member has gone; mounted files and the snapshot are applied.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch]
# Of management that was switched off.
- apiGroups: [""]
  resources: [services]
  verbs: [delete]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# Members are annotated, so that their kubelets look at the mounted objects at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
# Whether a new gateway finds spools of an earlier one.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list]
- apiGroups: [""]
  resources: [events]
  verbs: [get, create, patch]
# The Lease that says which operator serves the namespace.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
{{- end -}}

{{/* What is not in any namespace. */}}
{{- define "letterlock.clusterRules" -}}
# Requests to Kubernetes signers (spec.signerName). Approving or signing them is for others.
- apiGroups: [certificates.k8s.io]
  resources: [certificatesigningrequests]
  verbs: [list, create]
{{- end -}}

{{/* Only where all namespaces are served: these, and kinds, come and go. */}}
{{- define "letterlock.wideRules" -}}
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- end -}}
