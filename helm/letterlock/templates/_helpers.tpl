{{- define "letterlock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "letterlock.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "letterlock.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Cluster-wide objects: the namespace keeps two releases of one name apart. */}}
{{- define "letterlock.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "letterlock.fullname" .) -}}
{{- end -}}

{{- define "letterlock.operatorName" -}}
{{- printf "%s-operator" (include "letterlock.fullname" .) -}}
{{- end -}}

{{- define "letterlock.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "letterlock.operatorName" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: with serviceAccount.create=false, name the account that is there" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Called with a dict of `root` and `component`. */}}
{{- define "letterlock.selectorLabels" -}}
app.kubernetes.io/name: letterlock
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Called with a dict of `root` and `component`. */}}
{{- define "letterlock.labels" -}}
{{- with .root.Values.commonLabels }}
{{- toYaml . }}
{{ end }}
{{- include "letterlock.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "letterlock.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The served namespaces as a JSON list under `names`; empty: all of them. */}}
{{- define "letterlock.namespaces" -}}
{{- $named := .Values.operator.watchNamespaces -}}
{{- if .Values.operator.clusterWide -}}
{{- if $named -}}
{{- fail "operator.watchNamespaces and operator.clusterWide exclude each other: name namespaces, or serve all of them" -}}
{{- end -}}
{{- $named = list -}}
{{- else if not $named -}}
{{- $named = list .Release.Namespace -}}
{{- else if not (has .Release.Namespace $named) -}}
{{- if or .Values.gateway.enabled .Values.certificates .Values.listeners .Values.destinationControls .Values.caLists -}}
{{- fail (printf "operator.watchNamespaces leaves out the release's own namespace %s, so nobody would serve its gateway: add it, or set gateway.enabled=false" .Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- dict "names" (uniq $named) | toJson -}}
{{- end -}}

{{/* A namespace selector for the served namespaces. */}}
{{- define "letterlock.namespaceSelector" -}}
{{- with (include "letterlock.namespaces" . | fromJson).names -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: In
    values: {{ toJson . }}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{- define "letterlock.priorityClassName" -}}
{{- ternary (include "letterlock.clusterName" .) "" .Values.priorityClass.create -}}
{{- end -}}

{{/* Pods of ours may run under the restricted Pod Security standard. */}}
{{- define "letterlock.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "letterlock.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "letterlock.imagePullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}
